"""A crowd of clients that mean harm, beside an audience that does not."""

import json
import pathlib
import subprocess
import sys

from peers import Publisher, Server, audience, eventually, mib, ms

HERE = pathlib.Path(__file__).resolve().parent
# Longer than a head or a body may take.
SECONDS = 13


def hostile_crowd():
    """180 connections at a time of 15 hostile kinds (`tests/trials/crowd.py`), each opened again when it is closed, for 13 s"""
    with Server("--ping-interval", "2s", "--pong-timeout", "1s") as server, audience(server, "cats", 20) as group:
        publisher = Publisher(server, "cats")
        group.expect(publisher.publish(100, 100))
        calm, resident, descriptors = group.lap(), server.status("VmRSS"), server.descriptors()
        crowd = subprocess.Popen([sys.executable, HERE / "crowd.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            crowd.stdin.write(json.dumps({"address": server.address, "seconds": SECONDS}) + "\n")
            crowd.stdin.flush()
            most = 0
            while crowd.poll() is None:
                publisher.publish(20, 100)
                most = max(most, server.status("VmRSS"))
            told = json.loads(crowd.stdout.read())
        finally:
            crowd.kill()
            crowd.wait()
        group.expect(publisher.number)
        during = group.lap()
        spared = set(told["opened"]) - set(told["ended"])
        assert not spared, f"never closed: {spared}"
        assert most - resident < 32 << 20, f"{most - resident} bytes more"
        eventually("their descriptors are back", lambda: server.descriptors() <= descriptors)
        server.stop()
    return (f"{sum(told['opened'].values())} connections, each kind closed by the server; 20 others missed nothing, p99 {ms(during)} ("
            f"{ms(calm)} before); memory grew by {mib(most - resident)}; all descriptors back")


TRIALS = [(hostile_crowd, "each costs itself its connection within its timeout, a bounded piece of memory, and nobody else anything")]
