import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversations } from "../dist/conversations.js";
import { desk } from "./desk.mjs";
import { message } from "./model.mjs";

const view = (id, more = {}) => ({
  id,
  createdAt: "2026-01-01",
  lastSeq: 0,
  lastRev: 0,
  lastMessage: null,
  participants: [],
  participantCount: 0,
  unreadCount: 0,
  ...more,
});
const rest = async () => {
  for (let n = 0; n < 20; n++) await new Promise(setImmediate);
};

/** A server that answers immediately with the current `pages` and `views`. */
function setup(pages, views = {}) {
  const asked = [];
  const errors = [];
  const answer = (path) => {
    asked.push(path);
    if (path.startsWith("/conversations?")) return pages.shift()();
    if (path.endsWith("/unread-count")) return { count: views[path.split("/")[2]].unreadCount };
    return views[path.split("/")[2]];
  };
  const request = async (_, path) => answer(path);
  const list = new Conversations({ ask: request, request }, (error) => errors.push(error));
  const shown = () => list.snapshot().map(({ id, unreadCount }) => [id, unreadCount]);
  return { list, asked, errors, shown, views };
}

const settled = async (mock) => {
  mock.timers.tick(2_000);
  await rest();
};

test("a conversation that moves to the top while the pages are read is not lost between them", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const said = message(1, 1, { conversationId: "b" });
  const first = () => ({ items: [view("a")], nextCursor: "next" });
  const second = () => {
    list.event("message:new", said);
    return { items: [], nextCursor: null };
  };
  const { list, shown, errors } = setup([first, second], { b: view("b", { unreadCount: 1, lastSeq: 1, lastRev: 1 }) });
  list.connected({ userId: "alice", rooms: ["a", "b"] });
  await rest();
  await settled(mock);
  assert.deepEqual([shown().sort(), errors], [[["a", 0], ["b", 1]], []]);
});

test("after a deletion, a client with unread messages asks once for the count, and one without does not ask", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const items = [view("read", { lastRev: 1 }), view("unread", { lastRev: 1, unreadCount: 3 })];
  const { list, asked, shown } = setup([() => ({ items, nextCursor: null })], { unread: view("unread", { unreadCount: 1 }) });
  list.connected({ userId: "alice", rooms: ["read", "unread"] });
  await rest();
  for (const conversationId of ["read", "unread"]) {
    for (const rev of [2, 3]) list.event("message:deleted", { conversationId, messageId: `m${rev}`, deletedAt: "", rev });
  }
  await settled(mock);
  await settled(mock);
  assert.deepEqual(asked.slice(1), ["/conversations/unread", "/conversations/unread/unread-count", "/conversations/unread"]);
  assert.deepEqual(shown().sort(), [["read", 0], ["unread", 1]]);
});

test("a conversation that never settles is requested more and more rarely", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const busy = view("c", { unreadCount: 1 });
  const { list, asked } = setup([() => ({ items: [busy], nextCursor: null })], { c: busy });
  list.connected({ userId: "alice", rooms: ["c"] });
  await rest();
  list.event("participant:added", { conversationId: "c", userId: "bob", timestamp: "" });
  for (let n = 1; n <= 100; n++) {
    mock.timers.tick(300);
    busy.lastSeq++; // Each request finds a new message.
    list.event("message:new", message(n, n));
    await rest();
    list.event("message:updated", { conversationId: "c", messageId: "x", rev: n + 0.5 });
    busy.lastSeq++;
  }
  const rounds = (asked.length - 1) / 3;
  assert.ok(rounds >= 2 && rounds < 20, `${rounds} rounds in 30 s`);
});

test("a gap in the events of a conversation causes a request", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { list, shown } = setup([() => ({ items: [view("c")], nextCursor: null })], {
    c: view("c", { unreadCount: 3, lastSeq: 3, lastRev: 3 }),
  });
  list.connected({ userId: "alice", rooms: ["c"] });
  await rest();
  list.event("message:new", message(3, 3));
  await settled(mock);
  assert.deepEqual(shown(), [["c", 3]]);
});

test("without the REST API the unread count is unknown after an outage", () => {
  const list = new Conversations(null, assert.fail);
  list.connected({ userId: "alice", rooms: [] });
  list.event("conversation:new", view("c"));
  list.event("message:new", message(1, 1));
  assert.equal(list.snapshot()[0].unreadCount, 1);
  list.disconnected();
  list.connected({ userId: "alice", rooms: ["c"] });
  assert.equal(list.snapshot()[0].unreadCount, null);
});

test("a conversation that connected left out stays in the list, and is joined before it is read", async () => {
  const list = new Conversations(null, assert.fail);
  list.event("conversation:new", view("c"));
  list.connected({ userId: "alice", rooms: ["b"], roomsTruncated: true });
  assert.deepEqual(list.snapshot().map(({ id }) => id), ["c"]);
  const { conversation, asked, log } = desk({ outside: true });
  log.send("bob", "Hi");
  conversation.connected(true);
  void conversation.open();
  await rest();
  assert.deepEqual(asked.slice(0, 2).map(([event]) => event), ["room:join", "messages:sync"]);
  assert.equal(conversation.snapshot().messages.length, 1);
});
