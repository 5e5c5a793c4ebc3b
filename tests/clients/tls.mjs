// What there is only over TLS, with Node's tls and ws: `tls.mjs URL FOLDER PID`. Prints one line a check.
//
// The server with that PID has its certificate in FOLDER, as cert.pem and key.pem; what is put there and takes effect on SIGHUP is
// next to them.
import { once } from "node:events";
import { renameSync } from "node:fs";
import { connect as connectTls } from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";

import { base, call, connect, register, run, same } from "./calls.mjs";

const [folder, pid] = process.argv.slice(3);
const { hostname: host, port } = new URL(base);
const versions = ["TLSv1.2", "TLSv1.3"];
const only = (version) => ({ minVersion: version, maxVersion: version });
// More than twelve records of 16 KiB.
const large = Array.from({ length: 200 }, (_, number) => String.fromCharCode(97 + (number % 26)).repeat(1000)).join("") + "größe";
const burst = 10_000;

// The serial number of the certificate that a new connection is shown.
async function shown() {
  const stream = connectTls({ host, port });
  await once(stream, "secureConnect");
  const { serialNumber } = stream.getPeerCertificate();
  stream.destroy();
  return serialNumber;
}

// Has the other certificate shown; returns when it is.
async function renew() {
  const before = await shown();
  for (const name of ["cert.pem", "key.pem"]) {
    renameSync(`${folder}/${name}`, `${folder}/held`);
    renameSync(`${folder}/next-${name}`, `${folder}/${name}`);
    renameSync(`${folder}/held`, `${folder}/next-${name}`);
  }
  process.kill(Number(pid), "SIGHUP");
  while ((await shown()) === before) await sleep(20);
}

await run({
  "nobody believes the server without its authority": async () => {
    const stream = connectTls({ host, port, ca: [] });
    const [error] = await once(stream, "error");
    same(error.code, "UNABLE_TO_VERIFY_LEAF_SIGNATURE");
  },
  "TLS 1.2 and 1.3 are spoken, and http/1.1 agreed on": async () => {
    for (const version of versions) {
      const socket = await connect(await register(1), [], { ...only(version), ALPNProtocols: ["h2", "http/1.1"] });
      const { _socket: stream } = socket;
      same([stream.getProtocol(), stream.alpnProtocol, stream.authorized], [version, "http/1.1", true]);
      await call("POST", "/publish", { topic: "cats", message: version });
      same(await socket.next(), version);
      socket.close();
    }
  },
  "200 KiB pass whole in both directions": async () => {
    for (const version of versions) {
      const socket = await connect(await register(2, { topics: ["large"] }), ["fanfare.v1"], only(version));
      same(Object.keys(JSON.parse(await socket.next())), ["hello"]);
      same(JSON.parse(await socket.next()).ok, null);
      for (let number = 0; number < 3; number++) {
        socket.send(JSON.stringify({ publish: { topic: "large", message: number + large }, id: number }));
        const told = [JSON.parse(await socket.next()), JSON.parse(await socket.next())];
        same(told.filter((one) => one.ok === number).length, 1);
        same(told.find((one) => "message" in one).message === number + large, true);
      }
      await call("POST", "/publish/large", "over HTTP " + large, "text/plain");
      same(JSON.parse(await socket.next()).message === "over HTTP " + large, true);
      socket.close();
    }
  },
  "10,000 messages at once arrive in order": async () => {
    const sockets = [];
    for (const version of versions) sockets.push(await connect(await register(3, { topics: ["burst"] }), [], only(version)));
    const publishing = (async () => {
      for (let first = 0; first < burst; first += 1000) {
        const batch = Array.from({ length: 1000 }, (_, number) => ({ topic: "burst", message: String(first + number) }));
        await call("POST", "/batch", batch);
      }
    })();
    for (const socket of sockets) {
      for (let number = 0; number < burst; number++) same(await socket.next(), String(number));
      socket.close();
    }
    await publishing;
  },
  "either side closes, and the other hears the code": async () => {
    for (const version of versions) {
      const url = await register(4);
      const closed = await connect(url, [], only(version));
      closed.close(1000, "enough");
      same((await once(closed, "close"))[0], 1000);
      const told = await connect(url, [], only(version));
      const closing = once(told, "close");
      await call("DELETE", `/register/${url.split("/").pop()}`);
      const [code, reason] = await closing;
      same([code, String(reason)], [1000, "unregistered"]);
    }
  },
  "a certificate is renewed under an open connection": async () => {
    const before = await connect(await register(5, { topics: ["renewal"] }));
    await renew();
    const after = await connect(await register(6, { topics: ["renewal"] }));
    await call("POST", "/publish", { topic: "renewal", message: "is over" });
    same([await before.next(), await after.next()], ["is over", "is over"]);
    same(before._socket.getPeerCertificate().serialNumber === after._socket.getPeerCertificate().serialNumber, false);
    before.close();
    after.close();
  },
});
