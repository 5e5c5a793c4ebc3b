"""The base contract with Python's websockets, against the server at the URL argv[1]. Prints one line a check.

If the URL is one of https, argv[2] is the file of the certificate authority that vouches for the server, and nobody else's is trusted.
"""

import asyncio
import http.client
import json
import ssl
import sys
import urllib.request

import websockets
from websockets.exceptions import ConnectionClosed

BASE = sys.argv[1]
HOST = BASE.split("://")[1]
IS_SECURE = BASE.startswith("https://")
AUTHORITY = sys.argv[2] if IS_SECURE else None
TLS = ssl.create_default_context(cafile=AUTHORITY) if IS_SECURE else None
NAME = "websockets, TLS" if IS_SECURE else "websockets"
SECONDS = 60


def call(method, path, body=None, content_type="application/json"):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method, headers={"Content-Type": content_type})
    with urllib.request.urlopen(request, timeout=SECONDS, context=TLS) as answer:
        return json.load(answer)


def register(user, **more):
    return call("POST", "/register", {"user_id": user, **more})["url"]


def connect(url, **more):
    return websockets.connect(url, ssl=more.pop("ssl", TLS), **more)


def publish(topic, message, **more):
    return call("POST", "/publish", {"topic": topic, "message": message, **more})


async def check(name, checked):
    try:
        await asyncio.wait_for(checked(), SECONDS)
        print(f"ok: {NAME}: {name}")
    except Exception as error:  # every failure is a line, and the next check goes on
        print(f"FAILED: {NAME}: {name}: {error!r}")


def same(got, wanted):
    assert got == wanted, f"got {got!r}, not {wanted!r}"


async def delivers():
    async with connect(register(1)) as socket:
        publish("cats", "are awesome")
        same(await socket.recv(), "are awesome")


async def replaces_topics():
    async with connect(register(2)) as socket:
        await socket.send(json.dumps({"topics": ["dogs", "größe/🐈"]}))
        await socket.send("ping")
        same(await socket.recv(), "pong")
        publish("cats", "not this")
        publish("größe/🐈", "this")
        same(await socket.recv(), "this")


async def filters_users():
    async with connect(register(3)) as three, connect(register("3")) as text:
        async with connect(register(4)) as four:
            publish("cats", "for three", user_id=3)
            publish("cats", "for all")
            same([await three.recv(), await three.recv()], ["for three", "for all"])
            same([await text.recv(), await text.recv()], ["for three", "for all"])
            same(await four.recv(), "for all")


async def carries_binary():
    async with connect(register(5)) as socket:
        call("POST", "/publish/cats", bytes(range(256)), "application/octet-stream")
        same(await socket.recv(), bytes(range(256)))


async def answers_pings_and_nonsense():
    async with connect(register(6)) as socket:
        await (await socket.ping(b"are you there"))
        await socket.send("nonsense")
        same(json.loads(await socket.recv())["error"]["code"], "bad_request")


async def replaces_connections():
    url = register(7, topics=["seven"])
    async with connect(url) as first, connect(url) as second:
        try:
            await first.recv()
        except ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (4409, "replaced"))
        publish("seven", "to the second")
        same(await second.recv(), "to the second")


async def closes_the_unregistered():
    url = register(8)
    async with connect(url) as socket:
        call("DELETE", "/register/" + url.rsplit("/", 1)[1])
        try:
            await socket.recv()
            raise AssertionError("a message came")
        except ConnectionClosed as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (1000, "unregistered"))


async def takes_large_and_many():
    async with connect(register(9, topics=["many"]), max_size=None) as socket:
        sent = [f"{number:06}" + "x" * (number * 97 % 60_000) for number in range(300)]

        def publish_all():
            # On one connection, where `call` makes one each time.
            connection = http.client.HTTPSConnection(HOST, timeout=SECONDS, context=TLS) if IS_SECURE else \
                http.client.HTTPConnection(HOST, timeout=SECONDS)
            for message in sent:
                connection.request("POST", "/publish/many", message.encode(), {"Content-Type": "text/plain"})
                same("offset" in json.load(connection.getresponse()), True)
            connection.close()

        publishing = asyncio.create_task(asyncio.to_thread(publish_all))
        same([await socket.recv() for _ in sent], sent)
        await publishing


async def main():
    await check("a subscriber receives the message and nothing around it", delivers)
    await check("replaced topics are in force when the pong comes", replaces_topics)
    await check("a publication for a user reaches that user's clients", filters_users)
    await check("octet-stream arrives as a binary message", carries_binary)
    await check("pings are answered, nonsense too, and the connection goes on", answers_pings_and_nonsense)
    await check("a second connection replaces the first with 4409", replaces_connections)
    await check("an unregistered client is closed with 1000", closes_the_unregistered)
    await check("300 messages of many sizes arrive whole and in order", takes_large_and_many)


if __name__ == "__main__":
    asyncio.run(main())
