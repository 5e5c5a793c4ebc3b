// The base contract with Node's ws, against the server at argv[2]. Prints one line a check.
// Run in the folder ws is installed in.
import { createRequire } from "node:module";
import { once } from "node:events";

const { WebSocket } = createRequire(process.cwd() + "/")("ws");
const base = `http://${process.argv[2]}`;
const seconds = 20;

async function call(method, path, body, type = "application/json") {
  const answer = await fetch(base + path, {
    method,
    headers: { "Content-Type": type },
    body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status}`);
  return answer.json();
}

const register = async (user, more = {}) => (await call("POST", "/register", { user_id: user, ...more })).url;

// A connected socket with an inbox: `next` gives its messages one by one.
async function connect(url) {
  const socket = new WebSocket(url);
  const inbox = [];
  const readers = [];
  socket.on("message", (data) => (readers.length ? readers.shift()(String(data)) : inbox.push(String(data))));
  socket.next = () => (inbox.length ? Promise.resolve(inbox.shift()) : new Promise((read) => readers.push(read)));
  await once(socket, "open");
  return socket;
}

function same(got, wanted) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) throw new Error(`got ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
}

const checks = {
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
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no answer in time")), seconds * 1000).unref());
  try {
    await Promise.race([check(), late]);
    console.log(`ok: ws: ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED: ws: ${name}: ${error.message}`);
  }
}
process.exit(failed ? 1 : 0);
