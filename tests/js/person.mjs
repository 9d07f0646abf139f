// node person.mjs URL TOKEN [TRANSPORT...]
//
// A person with the official client, led line by line. In: {"emit", "data", "id"?} (with an id it
// asks for an answer), {"connect"}, {"disconnect"}; the end of the input is the end of the person.
// Out: {"heard", "data"} for every event, and for what the client itself has to tell, as
// "client:open" and "client:upgrade" (the transport), "client:session" (its id), "client:connect",
// "client:disconnect" and "client:refused"; {"answer", "data"} or {"answer", "error"} for what was asked.

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, token, ...transports] = process.argv.slice(2);

const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const hear = (heard, data = null) => tell({ heard, data });

const socket = io(url, {
  auth: { token },
  ...(transports.length > 0 && { transports }),
  reconnectionDelay: 50,
  reconnectionDelayMax: 250,
});

socket.onAny(hear);
socket.io.on("open", () => {
  const { engine } = socket.io;
  hear("client:open", engine.transport.name);
  hear("client:session", engine.id);
  engine.once("upgrade", () => hear("client:upgrade", engine.transport.name));
});
socket.on("connect", () => hear("client:connect", socket.id));
socket.on("disconnect", (reason) => hear("client:disconnect", reason));
socket.on("connect_error", ({ message, data = null }) => {
  // One that the server refused is not active: the client does not try again by itself.
  if (!socket.active) hear("client:refused", { message, data });
});

const emit = ({ emit, data, id }) => {
  if (id === undefined) return socket.emit(emit, data);
  socket.timeout(10_000).emit(emit, data, (error, answer) => {
    tell(error ? { answer: id, error: error.message } : { answer: id, data: answer });
  });
};

const orders = createInterface({ input: process.stdin });
orders.on("line", (line) => {
  const order = JSON.parse(line);
  if (order.emit) emit(order);
  else if (order.connect) socket.connect();
  else if (order.disconnect) socket.disconnect();
});
orders.on("close", () => {
  socket.disconnect();
  process.exit();
});
