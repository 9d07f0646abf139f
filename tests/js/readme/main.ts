// node main.js SOCKETS USER TOKEN: runs the code of the README, in its order, and prints the results.

import { parts } from "./dom.js";
import { banners } from "./app.js";
import { chat, conversation } from "./page.js";
import type { ListedMessage } from "@chatserver/client";

const until = async (such: () => boolean): Promise<void> => {
  while (!such()) await new Promise((wake) => setTimeout(wake, 10));
};
const lines = (): readonly string[] => parts.ol.shown.map((line) => line.textContent);

await until(() => conversation.snapshot().status === "live");
parts.input.value = " Hello, Bob ";
parts.input.happens("input");
parts.form.happens("submit");
const first = lines();
await until(() => conversation.snapshot().messages.every((message: ListedMessage) => message.state === "sent"));
const then = lines();

const { useConversation, Inbox } = await import("./react.js");
const { stop } = await import("./rest.js");
await import("./connection.js");
await import("./messages.js");
await import("./failed.js");
const { lasting, storage } = await import("./storage.js");
stop();
await until(() => chat.conversations.snapshot().length === 2 && parts.ol.shown.length === 3);
chat.close();
chat.connect();
await until(() => banners.includes("hidden") && conversation.snapshot().status === "live");
await until(() => chat.presence.snapshot().size > 0); // requested again after the connect, in parallel
lasting.conversation(conversation.id).send("Kept");
await new Promise((wake) => setTimeout(wake));
const seen = {
  first,
  then,
  field: parts.input.value,
  shown: conversation.snapshot().messages.map((message: ListedMessage) => [message.content, message.isDeleted]),
  same: useConversation(conversation.id) === conversation.snapshot(),
  inbox: JSON.stringify(Inbox({ open: () => undefined })),
  kept: (await storage.load()).map((entry) => entry.message.content),
  presence: [...chat.presence.snapshot().keys()],
};
console.log(JSON.stringify(seen));
chat.close();
