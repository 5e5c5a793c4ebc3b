"""Processes that stop or die: clients that the kernel no longer runs, and the server itself."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from peers import Publisher, Refused, Server, WebSocket, audience, mib, ms, open_socket

HERE = pathlib.Path(__file__).resolve().parent

STOPPED = 20
STOPPED_FOR = 6
CLASSES = """
[classes.lossy]
policy = "drop-oldest"
outbox_bytes = "256KiB"
[[topics]]
prefix = "lossy."
class = "lossy"
[classes.kept]
history = { messages = 10000, bytes = "512KiB", ttl = "10m" }
[[topics]]
prefix = "kept."
class = "kept"
"""


def held_up():
    """A process of clients in `fanfare.v1`, which tells on its standard output what they saw in the end."""
    return subprocess.Popen([sys.executable, HERE / "watchers.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(process, server, topic):
    process.stdin.write(json.dumps({"address": server.address, "topic": topic, "clients": STOPPED}) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "connected\n"


def stop_clients(topic, watched, options):
    """Stops a process of clients of `watched` while `topic` is published to, and lets it go on."""
    watchers = held_up()
    try:
        with Server("--socket-send-buffer", "64KiB", *options, config=CLASSES) as server, audience(server, topic, 10) as others:
            publisher = Publisher(server, topic, 8000)
            begin(watchers, server, watched)
            publisher.publish(100, 200)
            others.expect(publisher.number)
            calm, resident = others.lap(), server.status("VmRSS")
            os.kill(watchers.pid, signal.SIGSTOP)
            begun, most = time.monotonic(), 0
            while time.monotonic() - begun < STOPPED_FOR:
                publisher.publish(40, 200)
                most = max(most, server.status("VmRSS"))
            others.expect(publisher.number)
            during, closed = others.lap(), server.closed()
            os.kill(watchers.pid, signal.SIGCONT)
            others.expect(publisher.publish(1))
            told = json.loads(finish(watchers, publisher.number))
            assert most - resident < 16 << 20, f"{most - resident} bytes more"
            server.stop()
    finally:
        watchers.kill()
        watchers.wait()
    beside = f"10 others missed nothing, p99 {ms(during)} ({ms(calm)} before); memory grew by {mib(max(0, most - resident))}"
    return told, closed, beside


def finish(watchers, last):
    watchers.stdin.write(f"{last}\n")
    watchers.stdin.flush()
    line = watchers.stdout.readline()
    assert line, "the stopped process has not ended well"
    return line


def clients_stopped():
    """A process of 20 clients is stopped (`kill -STOP`) for 6 s while they are sent 9 MB each, and let go on"""
    told, closed, beside = stop_clients("plain", "plain", [])
    assert closed["slow"] == STOPPED, closed
    assert sum(told["ended"].values()) == STOPPED and not told["faults"], told
    return f"all {STOPPED} closed as slow, and saw it when they went on ({counted(told['ended'])}); {beside}"


def clients_stopped_at_rest():
    """The same while nothing is sent to them"""
    told, closed, beside = stop_clients("plain", "quiet", ["--ping-interval", "2s", "--pong-timeout", "1s"])
    assert closed["no_pong"] == STOPPED, closed
    assert sum(told["ended"].values()) == STOPPED and not told["faults"], told
    return f"all {STOPPED} closed without pong, and saw it when they went on ({counted(told['ended'])}); {beside}"


def clients_stopped_and_told():
    """The same with messages of a class that drops the oldest"""
    told, closed, beside = stop_clients("lossy.topic", "lossy.topic", [])
    assert told["whole"] == STOPPED and told["lost"] and not told["faults"], told
    return f"all {STOPPED} stayed and missed {told['lost']} messages, each as many as its gaps said; {beside}"


def counted(ends):
    return ", ".join(f"{count} × {end}" for end, count in sorted(ends.items())) or "no end"


def killed_under_load():
    """The server is killed (`kill -KILL`) under load and started again; 40 clients come back by themselves"""
    with Server(config=CLASSES) as first:
        listen = f"{first.address[0]}:{first.address[1]}"
        topic = "kept.scores"
        registered = [first.http().register([topic]) for _ in range(10)]
        plain = [WebSocket(first.address, f"/ws/{client}") for client in registered]
        resuming = [open_socket(first, "", "fanfare.v1") for _ in range(30)]
        seen = collections.defaultdict(list)
        positions = {}
        for client in resuming:
            subscribe(client, topic, None)
        publisher, unknown = Publisher(first, topic), None
        for round in range(200):
            publisher.publish(1)
            if round == 150:
                first.process.send_signal(signal.SIGKILL)
                break
        try:
            publisher.publish(1)
        except (OSError, ConnectionError):
            unknown = publisher.number
        killed = time.monotonic()
        for client in plain + resuming:
            account(client, seen[client], positions)
        assert all(client.ended in ("end", "reset") for client in plain + resuming)
    with Server(listen=listen, config=CLASSES) as second:
        publisher.http = second.http()
        first_after = publisher.publish(20) - 19
        back = {}
        for client, old in zip(plain, registered):
            try:
                WebSocket(second.address, f"/ws/{old}")
                raise AssertionError("a registration outlived its server")
            except Refused as refused:
                assert refused.status == 404, refused.status
            back[client] = WebSocket(second.address, f"/ws/{second.http().register([topic])}")
        resets = 0
        for client in resuming:
            back[client] = open_socket(second, "", "fanfare.v1")
            answer = subscribe(back[client], topic, positions[client])
            position = answer["positions"][topic]
            assert position["recovered"] is False, answer
            resets += 1
        served = time.monotonic() - killed
        last = publisher.publish(20)
        gaps = 0
        for client in plain + resuming:
            gaps += account(back[client], seen[client], positions, until=last)
        for client in plain + resuming:
            numbers = seen[client]
            assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers), f"twice, or out of order: {numbers}"
            assert numbers[-20:] == list(range(last - 19, last + 1)), numbers
        # Who resumes has the history of the new server too; the one that nobody answered for may be in neither.
        for client in resuming:
            missing = set(range(1, last + 1)) - set(seen[client])
            assert missing <= {unknown} | set(range(positions[client][2] + 1, first_after)), missing
        assert gaps == len(resuming), f"{gaps} gaps"
        second.stop()
    return (f"40 of 40 served again {served:.1f} s after the kill: 10 old URLs answered 404 and registered anew, 30 resumed and were "
            f"told `recovered: false` and a gap `reset`; nobody got a message twice or out of order")


def subscribe(client, topic, since):
    """Subscribes behind what the client has; the answer."""
    greeting = json.loads(client.next())
    assert "hello" in greeting, greeting
    command = {"subscribe": [topic], "id": 7}
    if since:
        command["since"] = {topic: {"epoch": since[0], "offset": since[1]}}
    client.send(1, json.dumps(command).encode())
    while True:
        answer = json.loads(client.next())
        if answer.get("ok") == 7:
            client.epoch = answer["positions"][topic]["epoch"]
            return answer


def account(client, numbers, positions, until=None):
    """Notes every message up to number `until`, or to the end of the connection. How many gaps there were."""
    gaps = 0
    while True:
        payload = client.next()
        if payload is None:
            assert until is None, f"ended with {client.ended}"
            return gaps
        if payload.startswith(b"{"):
            event = json.loads(payload)
            if "gap" in event:
                assert event["gap"]["reason"] == "reset", event
                gaps += 1
                continue
            if "message" not in event:
                continue
            number = int(event["message"].split(" ")[0])
            positions[client] = (client.epoch, event["offset"], number)
        else:
            number = int(payload.split(b" ")[0])
        numbers.append(number)
        if number == until:
            return gaps


TRIALS = [
    (clients_stopped, "closed as slow (1013, or reset where the close is not taken either); others notice nothing; memory is bounded"),
    (clients_stopped_at_rest, "closed as silent (4408) after ping interval (2 s) and pong timeout (1 s); others notice nothing"),
    (clients_stopped_and_told, "told of each loss by a `gap`; others notice nothing; memory is bounded"),
    (killed_under_load, "what was in memory is gone: registrations answer 404, epochs are new, who resumes is told so; nothing comes twice"),
]
