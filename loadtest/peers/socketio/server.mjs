// The Socket.IO server: a room for each topic and `io.to(topic).emit`. WebSocket only, and the first request of each
// connection is let go of, as its "Performance tuning" and "Memory usage" pages advise. What a socket does not take at
// once waits in Node's memory, without a bound.

import { createServer } from "node:http";
import { Server } from "socket.io";

const [host, port] = process.argv[2].split(":");

const server = createServer((request, response) => {
  if (!request.url.startsWith("/publish/")) return response.end();
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    io.to(request.url.slice("/publish/".length)).emit("m", Buffer.concat(chunks).toString());
    response.end();
  });
});
// Connections of publishers stay for as long as a run lasts.
server.keepAliveTimeout = 0;
server.requestTimeout = 0;

const io = new Server(server, { transports: ["websocket"], serveClient: false });
io.on("connection", (socket) => {
  socket.join(socket.handshake.query.topic);
  // Not earlier: the query is read from it.
  socket.conn.request = null;
});
server.listen({ host, port: Number(port), backlog: 1024 });
