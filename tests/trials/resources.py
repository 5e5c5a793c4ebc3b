"""Resources that run out: descriptors, the disk under the log, the memory budget."""

import contextlib
import errno
import json
import pathlib
import resource
import socket
import subprocess
import tempfile
import time

from peers import Audience, Publisher, Refused, Server, audience, eventually, mib, ms, need, open_socket

DESCRIPTORS = 128


def descriptors_used_up():
    """The server may open 128 files; clients come until no more are let in, and 300 connections that say nothing"""
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    with Server(preexec_fn=limit) as server, contextlib.ExitStack() as crowd:
        group = Audience([open_socket(server, "cats") for _ in range(10)])
        publisher = Publisher(server, "cats", anew=True)
        publisher.publish(20, 100)
        clients, refused = fill(server)
        group.expect(publisher.publish(50, 50))
        # They connect, as far as the kernel goes, and send nothing.
        for _ in range(300):
            silent = crowd.enter_context(contextlib.closing(socket.socket()))
            silent.setblocking(False)
            assert silent.connect_ex(server.address) in (0, errno.EINPROGRESS)
        begun = time.monotonic()
        publisher.publish(1)
        waited = time.monotonic() - begun
        used, status = server.descriptors(), server.health()["status"]
        group.expect(publisher.publish(50, 50))
        during = group.lap()
        assert used <= DESCRIPTORS and status == "ok", (used, status)
        assert len(server.log) < 100, f"{len(server.log)} lines of log"
        crowd.close()
        for client in clients:
            client.close()
        begun = time.monotonic()
        late = eventually("a further client is let in", lambda: let_in(server))
        after = time.monotonic() - begun
        last = publisher.publish(20)
        while not late.next().startswith(f"{last} ".encode()):
            pass
        group.expect(last)
        late.close()
        group.close()
        server.stop()
    return (f"{len(clients) + 10} clients let in, the next got {refused}; then each publication, on a connection of its own, was taken, the first "
            f"behind the silent ones after {ms(waited)}; {used} of {DESCRIPTORS} open; 10 that read missed nothing, p99 {ms(during)}; "
            f"a new client let in {ms(after)} after the others left")


def fill(server):
    """As many clients as are let in, and the status the next one gets."""
    clients = []
    while len(clients) < DESCRIPTORS:
        try:
            clients.append(open_socket(server, "quiet"))
        except Refused as refused:
            return clients, refused.status
    raise AssertionError("more clients than files")


def let_in(server):
    try:
        return open_socket(server, "cats")
    except (Refused, OSError):
        return None


def log_on_a_full_disk():
    """The disk under the log is full for a while"""
    with tempfile.TemporaryDirectory(prefix="fanfare-trial-") as folder, contextlib.ExitStack() as stack:
        need(["mount", "-t", "tmpfs", "-o", "size=64k", "fanfare-trial", folder])
        stack.callback(lambda: subprocess.run(["umount", folder], check=True))
        path, ballast = pathlib.Path(folder) / "log", pathlib.Path(folder) / "ballast"
        with open(path, "a") as log:
            listen = free_address()
            server = stack.enter_context(Server("--log-level", "trace", listen=listen, stderr=log))
        eventually("it listens", lambda: answers(server))
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(b"x" * 512):
                pass
        full = path.stat().st_size
        with audience(server, "cats", 10) as group:
            # Each connection says something.
            for _ in range(200):
                server.http().socket.close()
            group.expect(Publisher(server, "cats").publish(100, 100))
            p99, written = group.lap(), path.stat().st_size
        assert written - full < 8192, "the disk was not full"
        ballast.unlink()
        def told():
            server.http().socket.close()
            return "lines of the log were lost" in path.read_text()
        eventually("the log tells what it lost", told)
        server.stop()
        assert '"message":"stopped"' in path.read_text()
    return f"10 clients missed nothing, p99 {ms(p99)}; when there was room again the log went on and said how many lines were lost"


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def answers(server):
    try:
        return server.health()
    except OSError:
        return None


BUDGET = 16 << 20
# Each shard tells what it holds once a turn, and publishers are refused from then on: what two shards may take in one turn
# (256 KiB each) comes on top.
TURN = 2 * (256 << 10)
CLASSES = """
[classes.lossy]
policy = "drop-oldest"
[[topics]]
prefix = "lossy."
class = "lossy"
[classes.kept]
history = { messages = 100000, bytes = "512KiB", ttl = "10m" }
[[topics]]
prefix = "kept."
class = "kept"
"""


def memory_used_up():
    """A budget of 16 MiB (`--memory`), 40 topics with a history and 60 clients that do not read"""
    options = ["--memory", "16MiB", "--socket-send-buffer", "32KiB", "--publish-wait", "100ms"]
    with Server(*options, config=CLASSES) as server:
        topics = [f"lossy.{n}" for n in range(20)] + [f"plain.{n}" for n in range(20)]
        group = Audience([open_socket(server, "cats") for _ in range(10)])
        stalled = [open_socket(server, topic, receive_buffer=4096) for topic in topics + topics[:20]]
        publisher, crowd = Publisher(server, "cats", 1000), server.http()
        group.expect(publisher.publish(20))
        resident, most, rungs, refused, sent = server.status("VmRSS"), 0, set(), 0, 0
        message = b"x" * 32000
        for round in range(50):
            for topic in topics + [f"kept.{n}" for n in range(40)]:
                status, _ = crowd.request("POST", f"/publish/{topic}", message, "Content-Type: text/plain\r\n")
                assert status in (200, 503), status
                refused += status == 503
                sent += len(message)
            refused += publisher.offer(2)
            memory = server.health()["memory"]
            most, rungs = max(most, memory["used"]), rungs | {memory["rung"]}
        group.expect(publisher.number)
        p99, grown = group.lap(), server.status("VmRSS") - resident
        ledger = server.health()["ledger"]
        assert most <= BUDGET + TURN, f"{most} bytes held of {BUDGET}"
        assert grown < 2 * BUDGET, f"{grown} bytes more"
        for client in stalled:
            client.close()
        group.close()
        server.stop()
    return (f"at most {mib(most)} held of {mib(sent)} published, process grown by {mib(grown)}; {ledger['dropped']['memory']} frames dropped and "
            f"{ledger['closed']['slow']} stalled clients closed for it, {refused} publications refused; rungs seen: {', '.join(sorted(rungs))}; "
            f"10 that read missed nothing, p99 {ms(p99)}")


# What a busy machine may take for what an idle one does in a few milliseconds.
MOMENTS = 5
# The size of messages, how many are published with one request, and the budget.
SMALL = [(1000, 500, "8MiB"), (4000, 1, "8MiB"), (15000, 30, "8MiB")]


def memory_used_up_by_small_messages():
    """A budget of 8 MiB (`--memory`) and 40 clients that do not read, each of a topic of its own: messages of 1 to 15 KB alone and in batches, as fast as they are taken"""
    # Pings would find them first.
    options = ["--ping-interval", "0", "--socket-send-buffer", "32KiB", "--publish-wait", "100ms"]
    told = []
    for size, together, budget in SMALL:
        with Server("--memory", budget, *options) as server:
            limit = server.health()["memory"]["budget"]
            group = Audience([open_socket(server, "cats") for _ in range(10)])
            stalled = [open_socket(server, f"t{n}", receive_buffer=4096) for n in range(40)]
            healthy, crowd = Publisher(server, "cats", 100), server.http()
            group.expect(healthy.publish(20))
            sent = most = 0
            refused = closed = None
            end = time.monotonic() + 120
            # The slow pay first: then it may be that nobody is refused at all.
            while closed is None:
                assert time.monotonic() < (end if refused is None else refused + MOMENTS), f"{size} bytes: first 503 at {refused}, nobody closed"
                failed = publish_together(crowd, sent, size, together)
                sent += together
                if sent % 20 == 0 or failed:
                    health = server.health()
                    most = max(most, health["memory"]["used"])
                    if failed and refused is None:
                        refused = time.monotonic()
                    if health["ledger"]["closed"]["slow"] and closed is None:
                        closed = time.monotonic()
            stopped = time.monotonic()
            # An idle connection of HTTP ends meanwhile.
            healthy.http = server.http()
            healthy.offer(1)
            served = time.monotonic() - stopped
            assert served < MOMENTS, f"{size} bytes: a healthy topic was refused for {served:.1f} s after the load"
            group.expect(healthy.publish(20))
            group.lap()
            assert most <= limit + TURN, f"{size} bytes: {most} held of {limit}"
            when = "nobody refused" if refused is None else f"the first close {ms(max(0, closed - refused))} after the first 503"
            told.append(f"{together} × {size} B: {when}, a healthy topic taken after {ms(served)}, at most {mib(most)} of {budget}")
            for client in stalled:
                client.close()
            group.close()
            server.stop()
    return "; ".join(told)


def publish_together(http, first, size, together):
    """Publishes to 40 topics in turns. Returns whether any of it was refused."""
    message = "x" * size
    if together == 1:
        status, _ = http.request("POST", f"/publish/t{first % 40}", message.encode(), "Content-Type: text/plain\r\n")
        assert status in (200, 503), status
        return status == 503
    batch = [{"topic": f"t{(first * 7 + n) % 40}", "message": message} for n in range(together)]
    status, body = http.request("POST", "/batch", json.dumps(batch).encode(), "Content-Type: application/json\r\n")
    assert status == 200, (status, body)
    return any("error" in result for result in json.loads(body)["results"])


TRIALS = [
    (descriptors_used_up, "clients leave a share to HTTP: further ones get 503, while publishing, registering and health go on; who says nothing makes room; it recovers by itself"),
    (log_on_a_full_disk, "serving does not depend on the log; lines lost are counted and told"),
    (memory_used_up_by_small_messages, "the slowest are closed before publishers are refused, or within moments of it; when the load stops everybody is served again at once"),
    (memory_used_up, "what is queued and kept stays within the budget and what is taken in one turn, by dropping, then closing who is slow, then refusing publishers; who reads misses nothing"),
]
