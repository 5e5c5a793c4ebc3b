"""What there is only over TLS, with Python's ssl and websockets: `tls.py URL AUTHORITY FOLDER PID`. Prints one line a check.

The server with that PID has its certificate in FOLDER, as cert.pem and key.pem; what is put there and takes effect on SIGHUP is next to
them.
"""

import asyncio
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings

from contract import AUTHORITY, BASE, SECONDS, TLS, call, check, connect, publish, register, same

FOLDER = pathlib.Path(sys.argv[3])
PID = int(sys.argv[4])
HOST, PORT = BASE.removeprefix("https://").split(":")
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
# More than twelve records of 16 KiB.
LARGE = "".join(chr(ord("a") + number % 26) * 1_000 for number in range(200)) + "größe"
BURST = 10_000


def context(version=None, alpn=()):
    made = ssl.create_default_context(cafile=AUTHORITY)
    if version:
        made.minimum_version = made.maximum_version = VERSIONS[version]
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


def handshake(made, **more):
    """A bare connection. It is an error there if the other side ends it without saying so."""
    stream = socket.create_connection((HOST, int(PORT)), SECONDS)
    return made.wrap_socket(stream, server_hostname=HOST, suppress_ragged_eofs=False, **more)


def shown():
    with handshake(context()) as stream:
        return stream.getpeercert()["serialNumber"]


def renew():
    """Has the other certificate shown; returns when it is."""
    before = shown()
    for name in ["cert.pem", "key.pem"]:
        one, other = FOLDER / name, FOLDER / f"next-{name}"
        held = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(held)
    same(shown(), before)
    os.kill(PID, signal.SIGHUP)
    end = time.monotonic() + SECONDS
    while shown() == before:
        assert time.monotonic() < end, "the certificate from before is still shown"
        time.sleep(0.02)


def get(stream, path="/health"):
    """What comes until the other side has said that it ends."""
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{PORT}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while piece := stream.recv(65_536):
        answer += piece
    return answer


async def refuses_to_be_believed_without_its_authority():
    for reason, made in [("self-signed", ssl.create_default_context()), ("unknown", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))]:
        try:
            handshake(made)
            raise AssertionError(f"a server whose authority is {reason} is believed")
        except ssl.SSLCertVerificationError:
            pass
    same(TLS.verify_mode, ssl.CERT_REQUIRED)
    same(TLS.check_hostname, True)


async def speaks_both_versions():
    for version in VERSIONS:
        made = context(version, ["h2", "http/1.1"])
        async with connect(register(1), ssl=made) as socket:
            tls = socket.transport.get_extra_info("ssl_object")
            same((tls.version(), tls.selected_alpn_protocol()), (version, "http/1.1"))
            publish("cats", version)
            same(await socket.recv(), version)


async def refuses_what_is_old():
    warnings.simplefilter("ignore", DeprecationWarning)  # that is what they are
    for version in ["TLSv1", "TLSv1_1"]:
        made = context()
        # Without this the client itself would not speak it.
        made.set_ciphers("ALL:@SECLEVEL=0")
        made.minimum_version = made.maximum_version = ssl.TLSVersion[version]
        try:
            handshake(made)
            raise AssertionError(f"{version} is spoken")
        except ssl.SSLError as error:
            # An alert of the server: its hello lacks what came with TLS 1.2, if it gets as far as its version.
            assert error.reason in ["TLSV1_ALERT_PROTOCOL_VERSION", "SSLV3_ALERT_HANDSHAKE_FAILURE"], error


async def resumes():
    for version in VERSIONS:
        made = context(version)
        with handshake(made) as first:
            get(first)
            session = first.session
        with handshake(made, session=session) as second:
            same((second.session_reused, get(second).split(b"\r\n")[0]), (True, b"HTTP/1.1 200 OK"))


async def ends_in_order():
    for version in VERSIONS:
        with handshake(context(version)) as stream:
            answer = get(stream)
            assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"}"), answer


async def updates_keys():
    # K has s_client send a KeyUpdate that asks for one in return.
    with OpenSsl("-tls1_3") as client:
        client.say("K\n")
        client.hear("KEYUPDATE")
        client.say(f"GET /health HTTP/1.1\nHost: {HOST}\nConnection: close\n\n")
        client.hear('"status":"ok"')


async def refuses_to_renegotiate():
    with OpenSsl("-tls1_2") as client:
        client.say("R\n")
        client.hear("RENEGOTIATING")
        client.hear("no renegotiation")
    with handshake(context("TLSv1.2")) as stream:
        same(get(stream).split(b"\r\n")[0], b"HTTP/1.1 200 OK")


class OpenSsl:
    """The client of OpenSSL, past its handshake. Lines that begin with K, Q or R are commands of it, and it takes one a read."""

    def __init__(self, version):
        command = ["openssl", "s_client", "-connect", f"{HOST}:{PORT}", "-CAfile", AUTHORITY, "-verify_return_error", version]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        self.hear("Verify return code: 0")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def say(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def hear(self, awaited):
        said = ""
        while awaited not in said:
            line = self.process.stdout.readline()
            assert line, f"it ended without {awaited!r}: {said}"
            said += line


async def carries_what_is_longer_than_a_record():
    options = {"subprotocols": ["fanfare.v1"], "max_size": None}
    async with connect(register(2, topics=["large"]), **options) as sender, connect(register(3, topics=["large"]), **options) as other:
        for socket in [sender, other]:
            assert "hello" in json.loads(await socket.recv())
            same(json.loads(await socket.recv())["ok"], None)
        for number in range(3):
            await sender.send(json.dumps({"publish": {"topic": "large", "message": f"{number}{LARGE}"}, "id": number}))
            told = [json.loads(await sender.recv()) for _ in range(2)]
            same(sorted("ok" in one for one in told), [False, True])
            for got in [next(one for one in told if "ok" not in one), json.loads(await other.recv())]:
                same(got["message"] == f"{number}{LARGE}", True)
        call("POST", "/publish/large", f"over HTTP {LARGE}".encode(), "text/plain")
        same(json.loads(await other.recv())["message"] == f"over HTTP {LARGE}", True)


async def keeps_a_burst_in_order():
    async with connect(register(4, topics=["burst"])) as one, connect(register(5, topics=["burst"]), ssl=context("TLSv1.2")) as other:
        def publish_all():
            for first in range(0, BURST, 1_000):
                call("POST", "/batch", [{"topic": "burst", "message": str(number)} for number in range(first, first + 1_000)])

        async def read_all(socket):
            return [int(await socket.recv()) for _ in range(BURST)]

        publishing = asyncio.create_task(asyncio.to_thread(publish_all))
        for got in await asyncio.gather(read_all(one), read_all(other)):
            same(got == list(range(BURST)), True)
        await publishing


async def closes_from_either_side():
    for version in VERSIONS:
        url = register(6)
        async with connect(url, ssl=context(version)) as socket:
            await socket.close(1000, "enough")
            same((socket.close_code, socket.protocol.close_rcvd.code), (1000, 1000))
        async with connect(url, ssl=context(version)) as socket:
            call("DELETE", "/register/" + url.rsplit("/", 1)[1])
            await socket.wait_closed()
            same((socket.close_code, socket.close_reason), (1000, "unregistered"))


async def renews_its_certificate():
    async with connect(register(7, topics=["renewal"])) as before:
        await asyncio.to_thread(renew)
        async with connect(register(8, topics=["renewal"])) as after:
            publish("renewal", "is over")
            same([await before.recv(), await after.recv()], ["is over", "is over"])
            serials = [socket.transport.get_extra_info("peercert")["serialNumber"] for socket in [before, after]]
            same(serials[0] == serials[1], False)
            await before.send("ping")
            same(await before.recv(), "pong")


async def main():
    await check("nobody believes the server without its authority", refuses_to_be_believed_without_its_authority)
    await check("TLS 1.2 and 1.3 are spoken, and http/1.1 agreed on", speaks_both_versions)
    await check("nothing older is spoken", refuses_what_is_old)
    await check("a session is resumed in either version", resumes)
    await check("the end of a connection is said", ends_in_order)
    await check("keys are updated under a connection", updates_keys)
    await check("who asks to negotiate anew is refused", refuses_to_renegotiate)
    await check("200 KiB pass whole in both directions", carries_what_is_longer_than_a_record)
    await check("10,000 messages at once arrive in order", keeps_a_burst_in_order)
    await check("either side closes, and the other hears the code", closes_from_either_side)
    await check("a certificate is renewed under an open connection", renews_its_certificate)


asyncio.run(main())
