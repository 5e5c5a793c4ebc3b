// The base contract with Node's ws, against the server at the URL argv[2]. Prints one line a check.
import { once } from "node:events";

import { call, connect, register, run, same } from "./calls.mjs";

await run({
  "a publication right behind the open event arrives": async () => {
    for (let round = 0; round < 20; round++) {
      const socket = await connect(await register(1, { topics: [`round-${round}`] }));
      await call("POST", `/publish/round-${round}`, "at once", "text/plain");
      same(await socket.next(), "at once");
      socket.close();
    }
  },
  "replaced topics are in force when the pong comes": async () => {
    const socket = await connect(await register(2));
    socket.send('{"topics":["birds"]}');
    socket.send("ping\n");
    same(await socket.next(), "pong");
    await call("POST", "/publish", { topic: "cats", message: "not this" });
    await call("POST", "/publish", { topic: "birds", message: "this" });
    same(await socket.next(), "this");
    socket.close();
  },
  "a close is answered with its own code": async () => {
    const socket = await connect(await register(3));
    socket.close(1000, "enough");
    const [code] = await once(socket, "close");
    same(code, 1000);
  },
  "a client comes back on its url with its last topics": async () => {
    const url = await register(4);
    const first = await connect(url);
    first.send('{"topics":["fish"]}');
    first.send("ping");
    same(await first.next(), "pong");
    first.close();
    await once(first, "close");
    const second = await connect(url);
    await call("POST", "/publish", { topic: "fish", message: "swim" });
    same(await second.next(), "swim");
    second.close();
  },
  "pings are answered": async () => {
    const socket = await connect(await register(5));
    socket.ping("hello");
    const [payload] = await once(socket, "pong");
    same(String(payload), "hello");
    socket.close();
  },
});
