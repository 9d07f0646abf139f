// node chatter.mjs OPTIONS
//
// A user with this project's own client (clients/js), controlled line by line. In: {"id", "do", "of"?, "with"?} calls
// a method of the client, or of the conversation `of`; {"token"} answers a request for a token. Out: {"answer", "data"}
// or {"answer", "error"}; {"wish": "token"}; {"state"} for each state of the connection; {"told"} for each error that
// belongs to no call. `look` returns everything that the client shows.

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { ChatClient } from "../../clients/js/dist/index.js";

// Stands in for a page, whose events tell the client about the network.
const page = new EventTarget();
Object.assign(globalThis, {
  addEventListener: page.addEventListener.bind(page),
  removeEventListener: page.removeEventListener.bind(page),
});

const { file, ...options } = JSON.parse(process.argv[2]);
const tell = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const wishes = [];

const storage = file && {
  load: () => JSON.parse(readFileSync(file, "utf8")),
  save: (entries) => writeFileSync(file, JSON.stringify(entries)),
};
const chat = new ChatClient({
  ...options,
  ...(storage && { storage }),
  getToken: () =>
    new Promise((resolve) => {
      wishes.push(resolve);
      tell({ wish: "token" });
    }),
  onError: (error) => tell({ told: { code: error.code ?? null, message: String(error.message) } }),
});
const histories = new Map();
const wrong = new Map();
const own = {
  // Records every snapshot of the conversation, as [key, seq, state] of each message, to check intermediate states.
  record: ({ id }) => {
    const conversation = chat.conversation(id);
    histories.set(id, []);
    conversation.subscribe(() =>
      histories.get(id).push(conversation.snapshot().messages.map(({ key, seq, state }) => [key, seq, state])),
    );
  },
  // Reports, from now on, every snapshot with a doubled, misplaced or missing message.
  watch: ({ id }) => {
    const conversation = chat.conversation(id);
    wrong.set(id, []);
    conversation.subscribe(() => {
      const { messages } = conversation.snapshot();
      const seqs = messages.map((message) => message.seq);
      const sent = seqs.filter((seq) => seq !== null);
      const right =
        new Set(messages.map((message) => message.key)).size === messages.length &&
        seqs.slice(0, sent.length).every((seq, at) => seq === sent[0] + at);
      if (!right) wrong.get(id).push(seqs);
    });
  },
  wrong: ({ id }) => wrong.get(id),
  present: ({ userIds }) => void chat.watch(userIds),
  // A laptop that wakes up: the time has advanced, but no timer has.
  leap: ({ ms }) => {
    const { now } = Date;
    Date.now = () => now() + ms;
  },
  online: () => page.dispatchEvent(new Event("online")),
  recorded: ({ id }) => histories.get(id),
  // Sends all texts without waiting; answers when all are acknowledged.
  sendAll: ({ id, texts }) =>
    Promise.all(texts.map((text) => chat.conversation(id).send(text).sent)).then((all) => all.length),
  send: ({ id, message }) => chat.conversation(id).send(message).clientMessageId,
  type: async ({ id, ms }) => {
    const end = Date.now() + ms;
    while (Date.now() < end) {
      chat.conversation(id).typing();
      await new Promise((wake) => setTimeout(wake, 50));
    }
  },
};
const look = (id) => ({
  userId: chat.userId,
  state: chat.state.snapshot().status,
  conversations: chat.conversations.snapshot(),
  presence: Object.fromEntries(chat.presence.snapshot()),
  ...(id && { ...chat.conversation(id).snapshot(), marks: [...chat.conversation(id).snapshot().marks] }),
});

chat.state.subscribe(() => tell({ state: chat.state.snapshot() }));

const act = async (order) => {
  if (order.do === "look") return look(order.of);
  if (own[order.do]) return own[order.do]({ id: order.of, ...order.with });
  const on = order.of ? chat.conversation(order.of) : chat;
  return on[order.do](...(order.with ?? []));
};

const orders = createInterface({ input: process.stdin });
orders.on("line", (line) => {
  const order = JSON.parse(line);
  if (order.token) return wishes.shift()(order.token);
  act(order).then(
    (data) => tell({ answer: order.id, data: data ?? null }),
    (error) => tell({ answer: order.id, error: { code: error.code ?? "none", message: String(error) } }),
  );
});
// The client then has no timers left, so the process exits.
orders.on("close", () => chat.close());
