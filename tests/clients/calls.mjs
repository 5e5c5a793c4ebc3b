// Calls, sockets and checks for Node's ws, against the server at the URL argv[2]. The folder it runs in has ws.
//
// If the URL is one of https, NODE_EXTRA_CA_CERTS names the certificate authority that vouches for the server.
import { createRequire } from "node:module";
import { once } from "node:events";

export const { WebSocket } = createRequire(process.cwd() + "/")("ws");
export const base = process.argv[2];
const name = base.startsWith("https:") ? "ws, TLS" : "ws";
const seconds = 60;

export async function call(method, path, body, type = "application/json") {
  const answer = await fetch(base + path, {
    method,
    headers: { "Content-Type": type },
    body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status}`);
  return answer.json();
}

export const register = async (user, more = {}) => (await call("POST", "/register", { user_id: user, ...more })).url;

// A connected socket with an inbox: `next` gives its messages one by one.
export async function connect(url, protocols = [], options = {}) {
  const socket = new WebSocket(url, protocols, options);
  const inbox = [];
  const readers = [];
  socket.on("message", (data) => (readers.length ? readers.shift()(String(data)) : inbox.push(String(data))));
  socket.next = () => (inbox.length ? Promise.resolve(inbox.shift()) : new Promise((read) => readers.push(read)));
  await once(socket, "open");
  return socket;
}

export function same(got, wanted) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) throw new Error(`got ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
}

// Runs checks by their names, and ends the process.
export async function run(checks) {
  let failed = 0;
  for (const [what, check] of Object.entries(checks)) {
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no answer in time")), seconds * 1000).unref());
    try {
      await Promise.race([check(), late]);
      console.log(`ok: ${name}: ${what}`);
    } catch (error) {
      failed++;
      console.log(`FAILED: ${name}: ${what}: ${error.message}`);
    }
  }
  process.exit(failed ? 1 : 0);
}
