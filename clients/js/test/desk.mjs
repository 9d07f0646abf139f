// Alice in a conversation, with a server that answers immediately.

import { Conversation } from "../dist/conversation.js";
import { Outbox } from "../dist/outbox.js";
import { asking, Log, step } from "./model.mjs";

export const rest = async () => {
  for (let n = 0; n < 5; n++) await step();
};

/** `refusals` are returned in turn instead of answers. If `knows`, `me` is known from the start. If
 * `outside`, the socket is not in the room. */
export function desk({ view = null, knows = true, outside = false } = {}) {
  const log = new Log();
  const asked = [];
  const told = [];
  const errors = [];
  const refusals = [];
  const here = { me: knows ? "alice" : null };
  const connection = {
    ...asking,
    tell: (name) => told.push(name),
    call: async (event, payload) => {
      asked.push([event, payload]);
      const refusal = refusals.shift();
      if (refusal) throw refusal;
      if (event === "message:send") return log.send("alice", payload.content, payload.clientMessageId);
      if (event !== "messages:sync") return {};
      return { ...log.page(payload), lastSeq: log.messages.length, lastRev: log.rev };
    },
  };
  let conversation;
  const error = (raised) => errors.push(raised);
  const acknowledged = (message) => conversation.acknowledged(message);
  const outbox = new Outbox(connection, { changed: () => conversation?.outboxChanged(), acknowledged, error }, null);
  const around = { connection, outbox, userId: () => here.me, enter: () => (outside ? connection.call("room:join", { conversationId: "c" }) : null), view: async () => view?.() ?? null, watch: () => () => undefined, error };
  conversation = new Conversation("c", around);
  log.tell = (name, payload) => conversation.event(name, payload);
  const count = (name) => asked.filter(([event]) => event === name).length;
  return { log, asked, told, errors, refusals, here, connection, outbox, conversation, count };
}
