// node guest.mjs URL TRANSPORT...
//
// With SLASH=no it leaves out the slash after the path.
//
// A guest with the official client at the echo application (tests/support/echo.py). Connects to two namespaces, is
// refused by a third, and has everything echoed. Prints the results as one JSON object.

import { Manager } from "socket.io-client";

const [url, ...transports] = process.argv.slice(2);
const next = (emitter, event) =>
  new Promise((resolve) => emitter.once(event, (...told) => resolve(told)));
const plain = (value) =>
  JSON.parse(JSON.stringify(value, (_, inner) => (inner?.type === "Buffer" ? inner.data : inner)));

const addTrailingSlash = process.env.SLASH !== "no";
const manager = new Manager(url, { transports, reconnection: false, addTrailingSlash });
const main = manager.socket("/", { auth: { token: "123" } });
const custom = manager.socket("/custom");
const unknown = manager.socket("/random");

const upgraded = new Promise((resolve) =>
  manager.once("open", () => {
    const { engine } = manager;
    if (transports.length === 1) resolve(engine.transport.name);
    else engine.once("upgrade", () => resolve(engine.transport.name));
  }),
);
const firsts = [next(main, "auth"), next(custom, "auth"), next(unknown, "connect_error")];
const [auth, noAuth, [refused]] = await Promise.all(firsts);
const transport = await upgraded;

const back = next(main, "message-back");
main.emit("message", 1, "2", { 3: [true] });
const deep = next(custom, "message-back");
custom.emit("message", { file: Buffer.from([1, 2, 3]) }, [Buffer.alloc(0)]);
const acked = await main.timeout(2000).emitWithAck("message-with-ack", Buffer.from([4, 5, 6]));

const many = [];
main.on("message-back", (n) => many.push(n));
await back;
const before = many.length;
for (let n = 0; n < 500; n++) main.emit("message", n);
const seen = { transport, auth, noAuth, refused: refused.message, acked, deep: await deep, back: await back };
while (many.length < before + 500) await next(main, "message-back");
const inOrder = many.slice(-500).every((n, at) => n === at);

custom.disconnect();
main.emit("message", "still here");
const [still] = await next(main, "message-back");
console.log(JSON.stringify(plain({ ...seen, inOrder, still })));
main.disconnect();
