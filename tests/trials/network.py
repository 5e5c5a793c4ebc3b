"""Clients that vanish without a word: the network between them and the server is gone, and nobody says so."""

import contextlib
import time

from peers import Audience, Namespace, Publisher, Server, eventually, mib, ms, open_socket

PING, PONG = 2, 1
VANISH = 40


@contextlib.contextmanager
def two_networks():
    """A server in one network, and another one with a cable to it."""
    with Namespace("server") as here, Namespace("clients") as there:
        here.ip("link", "add", "cable0", "type", "veth", "peer", "name", "cable1", "netns", there.name)
        for network, end, address in [(here, "cable0", "10.99.0.1"), (there, "cable1", "10.99.0.2")]:
            network.ip("addr", "add", f"{address}/24", "dev", end)
            network.ip("link", "set", end, "up")
        times = ["--ping-interval", f"{PING}s", "--pong-timeout", f"{PONG}s"]
        # Whoever stays is in the network of the server.
        with here.inside(), Server(*times, listen="10.99.0.1:8000") as server:
            yield server, there


def vanish(cut):
    """What becomes of clients whose network `cut` takes away, beside some who stay."""
    with two_networks() as (server, there):
        staying = Audience([open_socket(server, "cats") for _ in range(10)])
        publisher = Publisher(server, "cats", 1000)
        publisher.publish(50, 100)
        with there.inside():
            idle = [open_socket(server, "quiet") for _ in range(VANISH // 2)]
            busy = [open_socket(server, "cats") for _ in range(VANISH // 2)]
        # They are there, and answer.
        going = Audience(idle + busy)
        publisher.publish(50, 100)
        eventually("all of them are served", lambda: all(client.received for client in busy))
        descriptors, resident = server.descriptors(), server.status("VmRSS")
        cut(there)
        begun = time.monotonic()
        held, staying.latencies = 0, []
        while server.closed()["no_pong"] < VANISH:
            assert time.monotonic() - begun < PING + PONG + 10, server.closed()
            publisher.publish(10, 100)
            held = max(held, server.health()["ledger"]["queued"])
        after = time.monotonic() - begun
        last = publisher.publish(50, 100)
        staying.expect(last)
        p99 = staying.lap()
        # A close frame nobody acknowledges: the socket goes when the time for goodbye is over.
        eventually("their descriptors are back", lambda: server.descriptors() <= descriptors - VANISH)
        eventually("nothing is queued for them any more", lambda: server.health()["ledger"]["queued"] == 0)
        grown = server.status("VmRSS") - resident
        assert after < PING + PONG + 2, f"closed after {after} s"
        assert grown < 2 << 20, f"{grown} bytes more"
        going.going = False
        staying.close()
        going.close()
        server.stop()
        return (f"all {VANISH} closed (4408) {after:.1f} s after the cut; {held} frames queued for them, none afterwards, and their "
                f"descriptors back; memory grew by {mib(max(0, grown))}; 10 others missed nothing, p99 {ms(p99)}")


def cable_cut():
    """40 clients vanish without a FIN: their link goes down"""
    return vanish(lambda there: there.ip("link", "set", "cable1", "down"))


def address_lost():
    """The same, as when a phone changes its network: their address is gone, and what is sent to it with it"""
    return vanish(lambda there: there.ip("addr", "del", "10.99.0.2/24", "dev", "cable1"))


PROMISED = f"closed within ping interval ({PING} s) and pong timeout ({PONG} s); what was queued for them is bounded and comes back; others notice nothing"
TRIALS = [(cable_cut, PROMISED), (address_lost, PROMISED)]
