import assert from "node:assert/strict";
import { test } from "node:test";
import { desk, rest } from "./desk.mjs";

test("unchanged parts are the same objects, and listeners are called once per change", async () => {
  const { conversation, log } = desk();
  log.send("bob", "one");
  log.send("bob", "two");
  await conversation.open();
  await rest();
  const seen = [];
  conversation.subscribe(() => seen.push(conversation.snapshot()));
  const before = conversation.snapshot();
  log.edit(2, "two!");
  assert.equal(seen.length, 1);
  assert.equal(seen[0].messages[0], before.messages[0]);
  assert.notEqual(seen[0].messages[1], before.messages[1]);
  conversation.event("user:typing", { conversationId: "c", userId: "bob", type: "typing", isActive: true });
  assert.deepEqual([seen.length, seen[1].typing], [2, ["bob"]]);
  assert.equal(seen[1].messages, seen[0].messages);
  // No change: it is so already. Nor does the user's own other device count.
  conversation.event("user:typing", { conversationId: "c", userId: "bob", type: "typing", isActive: true });
  conversation.event("user:typing", { conversationId: "c", userId: "alice", type: "typing", isActive: true });
  conversation.event("participant:added", { conversationId: "c", userId: "carol" });
  assert.equal(seen.length, 2);
});

test("an unsent message is the same object until it arrives, and causes two calls of listeners", async () => {
  const { conversation, log, connection } = desk();
  await conversation.open();
  await rest();
  const seen = [];
  conversation.subscribe(() => seen.push(conversation.snapshot().messages));
  connection.online = false;
  conversation.send("mine");
  log.send("bob", "theirs");
  assert.deepEqual(seen.map((list) => list.length), [1, 2]);
  assert.equal(seen[0][0], seen[1][1]);
  connection.online = true;
  conversation.send("more");
  await rest();
  assert.deepEqual(seen.at(-1).map((message) => [message.content, message.state]), [
    ["theirs", "sent"],
    ["mine", "sent"],
    ["more", "sent"],
  ]);
  assert.equal(seen.length, 5);
});

test("a message from before the first connection keeps its key, and gets its sender with it", async () => {
  const { conversation, outbox, connection, here } = desk({ knows: false });
  connection.online = false;
  conversation.send("early");
  const [early] = conversation.snapshot().messages;
  here.me = "alice";
  await outbox.flush("alice");
  const [waiting] = conversation.snapshot().messages;
  assert.deepEqual([waiting.key, waiting.senderId, waiting.state], [early.key, "alice", "pending"]);
  connection.online = true;
  await outbox.flush("alice");
  await conversation.open();
  await rest();
  const [sent] = conversation.snapshot().messages;
  assert.deepEqual([sent.key, sent.seq, sent.state], [early.key, 1, "sent"]);
});

test("the same clientMessageId of another user is another message", async () => {
  const { conversation, log, connection } = desk();
  await conversation.open();
  connection.online = false;
  const { clientMessageId } = conversation.send("mine");
  log.send("bob", "theirs", clientMessageId);
  const { messages } = conversation.snapshot();
  assert.deepEqual(messages.map((message) => message.content), ["theirs", "mine"]);
  assert.equal(new Set(messages.map((message) => message.key)).size, 2);
});

test("a socket that enters the room after open() reads the messages in between", async () => {
  const { conversation, log } = desk();
  await conversation.open();
  const { tell } = log;
  log.tell = () => undefined;
  log.send("bob", "not heard");
  log.tell = tell;
  conversation.event("conversation:new", { id: "c" });
  await rest();
  const { status, messages } = conversation.snapshot();
  assert.deepEqual([status, messages.map((message) => message.content)], ["live", ["not heard"]]);
});

test("errors of the REST API close no conversation", async () => {
  const refusal = new (await import("../dist/errors.js")).ChatError("NOT_FOUND", "a page of some proxy");
  const { conversation, errors } = desk({ view: () => Promise.reject(refusal) });
  await conversation.open();
  await rest();
  assert.equal(conversation.snapshot().status, "live");
  assert.deepEqual(errors, [refusal]);
});
