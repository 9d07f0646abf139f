// node person.mjs URL TOKEN [TRANSPORT...]
//
// A user with the official client, controlled line by line. In: {"emit", "data", "id"?} (with an id it requests an
// acknowledgement), {"connect"}, {"disconnect"}; at the end of the input the process exits. Out: {"heard", "data"} for
// every event, and for reports of the client itself: "client:open" and "client:upgrade" (the transport),
// "client:session" (its id), "client:connect", "client:disconnect" and "client:refused"; {"answer", "data"} or
// {"answer", "error"} for each acknowledgement.

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
  // If the server refused it, the socket is not active: the client does not retry by itself.
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
