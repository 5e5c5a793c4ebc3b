// The `ws` server: one Set of sockets for each topic and a loop of `send`, as its README broadcasts. The message is
// a Buffer already, so that it is not encoded again for each socket. What a socket does not take at once waits in
// Node's memory, without a bound.

import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

const [host, port] = process.argv[2].split(":");
const topics = new Map();

const server = createServer((request, response) => {
  if (!request.url.startsWith("/publish/")) return response.end();
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const message = Buffer.concat(chunks);
    for (const socket of topics.get(request.url.slice("/publish/".length)) ?? []) {
      if (socket.readyState === WebSocket.OPEN) socket.send(message, { binary: false });
    }
    response.end();
  });
});
// Connections of publishers stay for as long as a run lasts.
server.keepAliveTimeout = 0;
server.requestTimeout = 0;

const sockets = new WebSocketServer({ server, clientTracking: false });
sockets.on("connection", (socket, request) => {
  const topic = request.url.slice("/ws/".length);
  if (!topics.has(topic)) topics.set(topic, new Set());
  topics.get(topic).add(socket);
  socket.on("error", () => {});
  socket.on("close", () => topics.get(topic).delete(socket));
});
server.listen({ host, port: Number(port), backlog: 1024 });
