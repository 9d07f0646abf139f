// node listener.mjs URL NAME COUNT TRANSPORT...
//
// A user with the official client at the application of tests/chat/test_order_mix.py. Does COUNT things, fifty at a
// time, and prints everything that it received until "end", in order, as a JSON list of lines.

import { io } from "socket.io-client";

const [url, name, count, ...transports] = process.argv.slice(2);
const heard = [];
const socket = io(url, { transports, auth: { name }, reconnection: false });

let at = 0;
const act = () => {
  if (at === Number(count)) return;
  const n = at++;
  const more = n % 10 === 9 ? [Buffer.from([n & 255, n >> 8])] : [];
  socket.emit("act", n, ...more, (answer) => {
    heard.push(`answer ${answer}`);
    act();
  });
};

socket.on("said", (by, n) => heard.push(`said ${by} ${n}`));
socket.on("asked", (by, n, answer) => {
  heard.push(`asked ${by} ${n}`);
  answer(n);
});
socket.on("bytes", (by, n, data) => heard.push(`bytes ${by} ${n} ${data.toString("hex")}`));
socket.on("connect", () => {
  for (let n = 0; n < 50; n++) act();
});
socket.on("disconnect", (reason) => heard.push(`disconnect ${reason}`));
socket.on("end", () => {
  const said = JSON.stringify({ heard, transport: socket.io.engine.transport.name });
  process.stdout.write(said, () => process.exit());
});
