import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatError } from "../dist/index.js";
import { desk, rest } from "./desk.mjs";

const participants = (lastReadSeq) => ({ participants: [{ userId: "alice", role: "member", joinedAt: "", lastReadSeq }] });
const read = (userId, upToMessageId) => ["conversation:read", { conversationId: "c", userId, upToMessageId, count: 1 }];

test("without unread messages no mark is sent", async () => {
  const { conversation, log, count } = desk({ view: async () => participants(2) });
  log.send("bob", "one");
  log.send("bob", "two");
  await conversation.open();
  await rest();
  conversation.markRead();
  // The user's own messages are never unread, nor are deleted ones.
  log.send("alice", "three");
  conversation.markRead();
  log.send("bob", "four");
  log.delete(4);
  conversation.markRead();
  assert.equal(count("conversation:read"), 0);
});

test("one mark is sent, up to the newest message", async () => {
  const { conversation, log, count, asked } = desk();
  log.send("bob", "one");
  log.send("alice", "two");
  await conversation.open();
  for (let n = 0; n < 3; n++) conversation.markRead();
  await rest();
  conversation.markRead();
  log.send("alice", "three");
  conversation.markRead();
  assert.deepEqual(asked.at(-1), ["conversation:read", { conversationId: "c", upToMessageId: "m2" }]);
  assert.equal(count("conversation:read"), 1);
  // Another device read it first.
  log.send("bob", "four");
  conversation.event(...read("alice", "m4"));
  conversation.markRead();
  assert.equal(count("conversation:read"), 1);
  log.send("bob", "five");
  conversation.markRead();
  assert.equal(count("conversation:read"), 2);
});

test("older messages that are not loaded may be unread", async () => {
  const { conversation, log, count } = desk();
  for (let n = 0; n < 60; n++) log.send(n < 5 ? "bob" : "alice", `line ${n}`);
  await conversation.open();
  conversation.markRead();
  assert.equal(count("conversation:read"), 1);
});

test("a mark made without a connection is sent with the next one, even if the conversation was closed since", async () => {
  const { conversation, log, refusals, asked, count } = desk();
  log.send("bob", "one");
  await conversation.open();
  refusals.push(new ChatError("OFFLINE", "gone"));
  conversation.disconnected();
  conversation.markRead();
  conversation.close();
  await rest();
  conversation.connected(true);
  await rest();
  assert.equal(count("conversation:read"), 2);
  assert.deepEqual(asked.at(-1), ["conversation:read", { conversationId: "c", upToMessageId: "m1" }]);
});

test("a read event before its message counts when the message is loaded", async () => {
  const { conversation, log } = desk();
  for (let n = 0; n < 60; n++) log.send("alice", `line ${n}`);
  const readers = (at) => conversation.readersOf(conversation.snapshot().messages[at]);
  const opening = conversation.open();
  const late = log.send("alice", "said while it loads");
  conversation.event(...read("bob", late.id));
  conversation.event("message:read", { conversationId: "c", userId: "carol", messageId: "m3" });
  await opening;
  assert.deepEqual(readers(-1 + conversation.snapshot().messages.length), ["bob"]);
  await conversation.loadOlder();
  assert.deepEqual([conversation.snapshot().messages[2].seq, readers(2), readers(3)], [3, ["bob", "carol"], ["bob"]]);
});

test("the mark of a user who joined later says nothing about the messages before", async () => {
  const [before, after] = ["2026-11-21T09:00:00.000Z", "2026-11-21T10:00:00.000Z"];
  const marks = { dave: before, carol: after, erin: before };
  const participants = Object.entries(marks).map(([userId, joinedAt]) => ({ userId, role: "member", joinedAt, lastReadSeq: 1 }));
  const { conversation, log } = desk({ view: async () => ({ createdAt: before, participants }) });
  log.send("alice", "one"); // at half past nine
  log.send("alice", "two");
  const readers = (at) => conversation.readersOf(conversation.snapshot().messages[at]);
  await conversation.open();
  await rest();
  assert.deepEqual(readers(0), ["dave", "erin"]);
  conversation.event("participant:added", { conversationId: "c", userId: "erin", timestamp: after });
  assert.deepEqual(readers(0), ["dave"]);
  // What they read since then, they have read.
  conversation.event("message:read", { conversationId: "c", userId: "carol", messageId: "m2" });
  assert.deepEqual(readers(1), ["carol"]);
});
