// Bun's server with its native publish and subscribe (uWebSockets): `server.publish` frames a message once for all.
// What a socket does not take at once waits up to `backpressureLimit`; beyond it, messages are dropped for it.

const [hostname, port] = process.argv[2].split(":");

const server = Bun.serve({
  hostname,
  port: Number(port),
  // Connections of publishers stay for as long as a run lasts.
  idleTimeout: 0,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/ws/")) {
      return server.upgrade(request, { data: { topic: pathname.slice("/ws/".length) } })
        ? undefined
        : new Response(null, { status: 426 });
    }
    if (pathname.startsWith("/publish/")) {
      const topic = pathname.slice("/publish/".length);
      return request.text().then((message) => {
        server.publish(topic, message);
        return new Response();
      });
    }
    return new Response();
  },
  websocket: {
    idleTimeout: 0,
    perMessageDeflate: false,
    open: (socket) => socket.subscribe(socket.data.topic),
    message: () => {},
  },
});
