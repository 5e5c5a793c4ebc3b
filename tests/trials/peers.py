"""The real server as a process, and clients that know only the wire: what the trials have in common.

Everything is measured from outside: by what clients see, by what `/health` says, and by what the kernel says of the process.
"""

import base64
import collections
import contextlib
import ctypes
import functools
import json
import os
import pathlib
import re
import selectors
import socket
import struct
import subprocess
import tempfile
import threading
import time

DEADLINE = 30
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x5a\x00\xc3\x81"


class Skip(Exception):
    """What this machine does not let a trial do."""


def eventually(what, holds, seconds=DEADLINE):
    """Waits until `holds` returns something true, which is returned; fails after the deadline."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
    return found


def mib(size):
    return f"{size / (1 << 20):.1f} MiB"


def ms(seconds):
    return f"{seconds * 1000:.1f} ms"


class Server:
    """A running `fanfare`; a context that ends it. Its log is read by a thread, unless it is given somewhere to go."""

    binary = None

    def __init__(self, *options, listen="127.0.0.1:0", config=None, stderr=subprocess.PIPE, **popen):
        self.folder = tempfile.TemporaryDirectory(prefix="fanfare-trial-")
        command = [self.binary, "--listen", listen, "--log", "json", "--shards", "2", *self.always(), *options]
        if config:
            path = pathlib.Path(self.folder.name) / "fanfare.toml"
            path.write_text(config)
            command += ["--config", str(path)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FANFARE_")}
        self.log = []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                                        env=environment, text=True, **popen)
        if stderr == subprocess.PIPE:
            self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
            self.reader.start()
            self.address = eventually("the server says where it listens", self.listening)
        else:
            host, port = listen.rsplit(":", 1)
            self.address = (host, int(port))

    @classmethod
    @functools.cache
    def always(cls):
        """What a server of a trial is told besides, as far as it knows it: it has its network to itself."""
        known = subprocess.run([cls.binary, "--help"], check=True, capture_output=True, text=True).stdout
        wanted = {"--admin-listen": ["off"], "--insecure-open": []}
        return [word for option, value in wanted.items() if option in known for word in [option, *value]]

    def listening(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server did not start: {''.join(self.log)}")
        for line in list(self.log):
            if found := re.search(r'"message":"listening".*"address":"([^"]+):(\d+)"', line):
                return found.group(1), int(found.group(2))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def stop(self):
        """Ends it as an operator does. It must end well."""
        self.process.terminate()
        assert self.process.wait(DEADLINE) == 0, f"the server ended with {self.process.returncode}"

    def said(self, text):
        return sum(text in line for line in list(self.log))

    def status(self, name):
        """A number the kernel tells of the process: `VmRSS`, `Threads`; bytes where it is a size."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+)( kB)?", text, re.MULTILINE)
        return int(found.group(1)) * (1024 if found.group(2) else 1)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def http(self, timeout=DEADLINE):
        return Http(self.address, timeout)

    def health(self):
        with self.http() as http:
            return json.loads(http.request("GET", "/health")[1])

    def closed(self):
        return self.health()["ledger"]["closed"]


class Http:
    """One connection that speaks HTTP; a context that closes it."""

    def __init__(self, address, timeout=DEADLINE):
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = f"{address[0]}:{address[1]}"
        self.bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the connection ended")
        self.bytes += piece

    def head(self):
        while b"\r\n\r\n" not in self.bytes:
            self.read()
        head, self.bytes = self.bytes.split(b"\r\n\r\n", 1)
        return head.decode("latin1")

    def request(self, method, path, body=b"", headers=""):
        """The status and the body of the answer."""
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{length}{headers}\r\n"
        self.socket.sendall(head.encode() + body)
        head = self.head()
        length = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE).group(1))
        while len(self.bytes) < length:
            self.read()
        body, self.bytes = self.bytes[:length], self.bytes[length:]
        return int(head.split(" ")[1]), body

    def publish(self, topic, message):
        """Publishes, and must be taken."""
        status, body = self.request("POST", f"/publish/{topic}", message.encode(), "Content-Type: text/plain\r\n")
        assert status == 200, (status, body)
        return json.loads(body)

    def register(self, topics):
        body = json.dumps({"user_id": 1, "topics": topics}).encode()
        status, body = self.request("POST", "/register", body, "Content-Type: application/json\r\n")
        assert status == 200, (status, body)
        return json.loads(body)["url"].rsplit("/", 1)[1]


class Refused(Exception):
    """An upgrade that was answered with something else than 101."""

    def __init__(self, status):
        super().__init__(f"the upgrade was refused with {status}")
        self.status = status


class WebSocket:
    """A client behind its 101, in the plain protocol or `fanfare.v1`; blocking until it is put among an audience."""

    def __init__(self, address, path, subprotocol=None, receive_buffer=None):
        http = Http.__new__(Http)
        http.socket = socket.socket()
        if receive_buffer:
            http.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        http.socket.settimeout(DEADLINE)
        http.socket.connect(address)
        http.bytes = b""
        key = base64.b64encode(os.urandom(16)).decode()
        offer = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        http.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\n"
                             f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                             f"{offer}\r\n").encode())
        status = int(http.head().split(" ")[1])
        if status != 101:
            http.socket.close()
            raise Refused(status)
        self.socket, self.bytes = http.socket, bytearray(http.bytes)
        # What is known at the end: a close code, "reset" or "end".
        self.ended = None
        # For whoever keeps an account.
        self.last = None
        self.received = 0

    def close(self):
        self.socket.close()

    def send(self, opcode, payload):
        self.socket.sendall(frame(0x80 | opcode, payload))

    def frames(self):
        """The whole frames among what was read."""
        while len(self.bytes) >= 2:
            length, at = self.bytes[1] & 0x7f, 2
            if length == 126:
                length, at = struct.unpack_from(">H", self.bytes, 2)[0] if len(self.bytes) >= 4 else 1 << 62, 4
            elif length == 127:
                length, at = struct.unpack_from(">Q", self.bytes, 2)[0] if len(self.bytes) >= 10 else 1 << 62, 10
            if len(self.bytes) < at + length:
                return
            opcode, payload = self.bytes[0] & 0xf, bytes(self.bytes[at:at + length])
            del self.bytes[:at + length]
            yield opcode, payload

    def next(self):
        """The next message, pings answered; `None` at the end, which `ended` tells."""
        while True:
            for opcode, payload in self.frames():
                if opcode == PING:
                    # Who is not there any more is found out by reading.
                    with contextlib.suppress(ConnectionError):
                        self.send(PONG, payload)
                elif opcode == CLOSE:
                    self.ended = struct.unpack(">H", payload[:2])[0]
                    return None
                else:
                    return payload
            try:
                piece = self.socket.recv(1 << 16)
            except ConnectionResetError:
                self.ended = "reset"
                return None
            if not piece:
                self.ended = self.ended or "end"
                return None
            self.bytes += piece


def frame(first, payload=b"", claimed=None):
    """A masked frame; `claimed` is a length other than it has."""
    length = len(payload) if claimed is None else claimed
    if length < 126:
        head = bytes([first, 0x80 | length])
    elif length < 1 << 16:
        head = bytes([first, 0x80 | 126]) + struct.pack(">H", length)
    else:
        head = bytes([first, 0x80 | 127]) + struct.pack(">Q", length)
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def open_socket(server, topic, subprotocol=None, **options):
    """A client of `topic` that did not register."""
    return WebSocket(server.address, f"/ws?topics={topic}", subprotocol, **options)


class Audience:
    """Clients of one topic whose messages are numbered and say when they left. Each must get every number once, in order.

    A thread reads for all of them and notes how long each message took; pings are answered."""

    def __init__(self, clients):
        self.clients = clients
        self.faults = []
        self.latencies = []
        self.ended = collections.Counter()
        self.selector = selectors.DefaultSelector()
        for client in clients:
            client.socket.setblocking(False)
            self.selector.register(client.socket, selectors.EVENT_READ, client)
        self.going = True
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while self.going:
            for key, _ in self.selector.select(0.1):
                client = key.data
                try:
                    piece = client.socket.recv(1 << 16)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    self.ended[client.ended or "end"] += 1
                    self.selector.unregister(client.socket)
                    continue
                client.bytes += piece
                for opcode, payload in client.frames():
                    self.take(client, opcode, payload)

    def take(self, client, opcode, payload):
        if opcode == PING:
            with contextlib.suppress(ConnectionError):
                client.send(PONG, payload)
        elif opcode == CLOSE:
            client.ended = struct.unpack(">H", payload[:2])[0]
        else:
            number, left = payload.split(b" ", 2)[:2]
            number = int(number)
            self.latencies.append(time.monotonic() - float(left))
            if client.last is not None and number != client.last + 1:
                self.faults.append(f"{number} behind {client.last}")
            client.last = number
            client.received += 1

    def lap(self):
        """The 99th percentile of the latencies since the last lap, seconds."""
        taken, self.latencies = sorted(self.latencies), []
        return taken[int(len(taken) * 0.99)] if taken else 0.0

    def expect(self, last):
        """Waits until each client has number `last`; none may have missed anything or been closed."""
        try:
            eventually("", lambda: all(client.last == last for client in self.clients))
        except AssertionError:
            behind = [client for client in self.clients if client.last != last]
            raise AssertionError(f"{len(behind)} of {len(self.clients)} clients did not get {last}: "
                                 f"{[client.last for client in behind][:5]}, ended {dict(self.ended)}") from None
        assert not self.faults, self.faults[:5]
        assert not self.ended, dict(self.ended)

    def close(self):
        self.going = False
        self.thread.join()
        for client in self.clients:
            client.close()


class Publisher:
    """Publishes numbered messages at a rate, each of which must be taken; on one connection, or a new one for each."""

    def __init__(self, server, topic, size=100, anew=False):
        self.server, self.topic, self.size, self.number = server, topic, size, 0
        self.http = None if anew else server.http()

    def message(self):
        self.number += 1
        return f"{self.number} {time.monotonic()} ".ljust(self.size, "x")

    def publish(self, count, rate=0):
        begun = time.monotonic()
        for n in range(count):
            if rate:
                time.sleep(max(0, begun + n / rate - time.monotonic()))
            if self.http:
                self.http.publish(self.topic, self.message())
            else:
                with self.server.http() as http:
                    http.publish(self.topic, self.message())
        return self.number

    def offer(self, count):
        """Publishes, and offers again what is refused for a lack of room, until it is taken; how often that was."""
        refused = 0
        for _ in range(count):
            message = self.message().encode()

            def taken():
                nonlocal refused
                status, body = self.http.request("POST", f"/publish/{self.topic}", message, "Content-Type: text/plain\r\n")
                assert status in (200, 503), (status, body)
                refused += status == 503
                return status == 200

            eventually("the message is taken", taken)
        return refused


@contextlib.contextmanager
def audience(server, topic, count):
    """So many clients of a topic that read, for a while."""
    group = Audience([open_socket(server, topic) for _ in range(count)])
    try:
        yield group
    finally:
        group.close()


class Namespace:
    """A network of its own, gone with its context. Sockets made `inside` it belong to it for ever."""

    CLONE_NEWNET = 0x40000000

    def __init__(self, name):
        self.name = f"fanfare-{os.getpid()}-{name}"

    def __enter__(self):
        ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        ip("netns", "del", self.name)

    def ip(self, *words):
        ip("-n", self.name, *words)

    @contextlib.contextmanager
    def inside(self):
        library = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{self.name}") as other:
            if library.setns(other.fileno(), self.CLONE_NEWNET) != 0:
                raise Skip("needs the right to enter a network namespace")
            try:
                yield
            finally:
                library.setns(own.fileno(), self.CLONE_NEWNET)


def ip(*words):
    need(["ip", *words])


def need(command):
    """Runs a command of the system, or says that this machine has it not."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise Skip(f"needs {command[0]}") from None
    if ended.returncode != 0:
        raise Skip(f"needs to be allowed `{' '.join(command)}`: {ended.stderr.strip()}")
