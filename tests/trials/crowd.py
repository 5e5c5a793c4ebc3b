"""A process of clients that mean harm, all at once and again and again. It is told on standard input whom to trouble and for
how many seconds; it answers with how many connections of each kind there were, and how many of those the server ended."""

import collections
import json
import socket
import sys
import time

from peers import PING, PONG, TEXT, frame

# Connections of each kind at any time.
EACH = 12
HOST = "Host: a\r\n"
HANDSHAKE = (f"GET /ws?topics=crowd HTTP/1.1\r\n{HOST}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
POST = f"POST /publish/crowd HTTP/1.1\r\n{HOST}"
# By name: whether it upgrades first, what it sends at once, what it sends again and again, and after how many seconds each.
KINDS = {
    "silent": (False, b"", b"", 1),
    "head dribbled": (False, f"GET /health HTTP/1.1\r\n{HOST}X: ".encode(), b"x", 0.1),
    "head too long": (False, f"GET /health HTTP/1.1\r\n{HOST}X: ".encode() + b"x" * 65536, b"x", 0.1),
    "head of too many lines": (False, f"GET /health HTTP/1.1\r\n{HOST}".encode() + b"X: y\r\n" * 5000, b"", 1),
    "body dribbled": (False, f"{POST}Content-Length: 60000\r\n\r\n".encode(), b"x", 0.1),
    "chunks dribbled": (False, f"{POST}Transfer-Encoding: chunked\r\n\r\nffff\r\n".encode(), b"x", 0.1),
    "handshake half sent": (False, HANDSHAKE[:-2], b"", 1),
    "no HTTP": (False, b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"", 1),
    "frame half sent": (True, frame(0x80 | TEXT, b"ping")[:7], b"", 1),
    "frame without mask": (True, b"\x81\x04ping", b"", 1),
    "frame of a terabyte": (True, frame(0x80 | TEXT, claimed=1 << 40), b"x" * 1024, 0),
    "pings": (True, b"", frame(0x80 | PING, b"x" * 125) * 50, 0),
    "pongs": (True, b"", frame(0x80 | PONG) * 50, 0),
    "commands": (True, b"", frame(0x80 | TEXT, b"ping") * 50, 0),
    "fragments": (True, frame(TEXT, b"x"), frame(0, b"x") * 50, 0),
}


class Troublemaker:
    """One connection of a kind."""

    def __init__(self, kind, address):
        self.kind = kind
        self.upgrades, self.opening, self.again, self.every = KINDS[kind]
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(address)
        self.waiting = HANDSHAKE if self.upgrades else self.opening
        self.read = b""
        self.next_at = 0

    def turn(self, now):
        """Reads and writes what it may; whether the connection is still there."""
        try:
            piece = self.socket.recv(65536)
            if not piece:
                return False
            if self.upgrades and b"\r\n\r\n" not in self.read:
                self.read += piece
                if b"\r\n\r\n" in self.read:
                    self.waiting += self.opening
        except BlockingIOError:
            pass
        except OSError:
            return False
        is_in = not self.upgrades or b"\r\n\r\n" in self.read
        if not self.waiting and is_in and now >= self.next_at:
            self.waiting, self.next_at = self.again, now + self.every
        if self.waiting:
            try:
                self.waiting = self.waiting[self.socket.send(self.waiting):]
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True


def main():
    order = json.loads(sys.stdin.readline())
    address, end = tuple(order["address"]), time.monotonic() + order["seconds"]
    opened, ended = collections.Counter(), collections.Counter()
    crowd = []
    while (now := time.monotonic()) < end:
        there = collections.Counter(one.kind for one in crowd)
        for kind in KINDS:
            if there[kind] < EACH:
                crowd.append(Troublemaker(kind, address))
                opened[kind] += 1
        staying = []
        for one in crowd:
            if one.turn(now):
                staying.append(one)
            else:
                ended[one.kind] += 1
                one.socket.close()
        crowd = staying
        time.sleep(0.002)
    print(json.dumps({"opened": opened, "ended": ended}), flush=True)


main()
