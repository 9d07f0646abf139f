import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatError } from "../dist/index.js";
import { Outbox } from "../dist/outbox.js";
import { asking } from "./model.mjs";

const refusal = (code, details = { retryAfter: 0.001 }) => new ChatError(code, "no", details);

/** A server that returns these answers in turn, then acknowledges everything. */
function setup({ answers = [], storage = null, online = true } = {}) {
  const asked = [];
  const told = { errors: [], changes: 0, acknowledged: [] };
  const connection = {
    ...asking,
    online,
    call: async (_, { content, conversationId, clientMessageId }) => {
      asked.push(content);
      const answer = answers.shift();
      if (answer) throw answer;
      return { id: `of ${content}`, conversationId, clientMessageId };
    },
  };
  const outbox = new Outbox(
    connection,
    {
      changed: () => told.changes++,
      acknowledged: (message) => told.acknowledged.push(message.id),
      error: (error) => told.errors.push(error),
    },
    storage,
  );
  return { asked, told, connection, outbox };
}

for (const code of ["RATE_LIMITED", "UNAVAILABLE", "TIMEOUT", "INTERNAL"]) {
  test(`after ${code} a message is sent again before the next one`, async () => {
    const { asked, outbox } = setup({ answers: [refusal(code), refusal(code)] });
    const all = ["one", "two"].map((content) => outbox.add("c", { content }).sent);
    assert.deepEqual((await Promise.all(all)).map((message) => message.id), ["of one", "of two"]);
    assert.deepEqual(asked, ["one", "one", "one", "two"]);
  });
}

test("a message that breaks the server does not block later ones for ever", async () => {
  const { asked, outbox } = setup({ answers: Array(5).fill(refusal("INTERNAL")) });
  const bad = outbox.add("c", { content: "bad" }).sent;
  const good = outbox.add("c", { content: "good" }).sent;
  await assert.rejects(bad, { code: "INTERNAL" });
  await good;
  assert.deepEqual(asked, ["bad", "bad", "bad", "bad", "bad", "good"]);
  assert.equal(outbox.of("c")[0].error.code, "INTERNAL");
});

test("one conversation does not wait for another", async () => {
  const { outbox } = setup({ answers: [refusal("UNAVAILABLE", { retryAfter: 0.2 })] });
  outbox.add("slow", { content: "waits" });
  await outbox.add("quick", { content: "goes" }).sent;
  assert.equal(outbox.of("slow").length, 1);
});

test("a refused message can be sent again, after the waiting ones, or discarded", async () => {
  const { asked, outbox } = setup({ answers: [refusal("FORBIDDEN")] });
  const { clientMessageId, sent } = outbox.add("c", { content: "one" });
  await assert.rejects(sent, { code: "FORBIDDEN" });
  outbox.retry(clientMessageId);
  await outbox.add("c", { content: "two" }).sent;
  assert.deepEqual(asked, ["one", "one", "two"]);
  assert.deepEqual(outbox.of("c"), []);
  const other = setup({ online: false }).outbox;
  const given = other.add("c", { content: "never mind" });
  other.discard(given.clientMessageId);
  await assert.rejects(given.sent, { code: "CONFLICT" });
  assert.deepEqual(other.of("c"), []);
});

test("a message that is discarded between two attempts is not tried again", async () => {
  const { asked, outbox } = setup({ answers: [refusal("UNAVAILABLE", { retryAfter: 0.02 })] });
  const { clientMessageId, sent } = outbox.add("c", { content: "never mind" });
  const next = outbox.add("c", { content: "next" }).sent;
  await new Promise(setImmediate);
  outbox.discard(clientMessageId);
  await assert.rejects(sent, { code: "CONFLICT" });
  await next;
  assert.deepEqual(asked, ["never mind", "next"]);
});

test("two tabs with one storage leave each other's messages in it", async () => {
  let kept = "[]";
  const storage = { load: () => JSON.parse(kept), save: (entries) => void (kept = JSON.stringify(entries)) };
  const inStorage = async () => {
    await new Promise(setImmediate);
    return JSON.parse(kept).map((entry) => entry.message.content);
  };
  const [left, right] = [setup({ storage, online: false }), setup({ storage, online: false })];
  left.outbox.add("c", { content: "left" });
  const { clientMessageId } = right.outbox.add("c", { content: "right" });
  right.outbox.add("c", { content: "right, too" });
  assert.deepEqual((await inStorage()).sort(), ["left", "right", "right, too"]);
  right.outbox.discard(clientMessageId);
  left.connection.online = true;
  await left.outbox.flush("alice");
  assert.deepEqual(await inStorage(), ["right, too"]);
  // When both are closed, a third tab takes over the rest.
  const { asked, outbox } = setup({ storage });
  await outbox.flush("alice");
  assert.deepEqual([await inStorage(), asked], [[], ["right, too"]]);
});

test("another user's messages are neither shown nor sent, and stay stored", async () => {
  const entry = { conversationId: "c", createdAt: "", message: { content: "secret" }, error: null };
  const saved = [];
  const storage = {
    load: async () => [{ ...entry, clientMessageId: "1", userId: "bob" }],
    save: async (entries) => saved.push(entries.map((entry) => entry.message.content)),
  };
  const { asked, outbox } = setup({ storage });
  await outbox.flush("alice");
  await outbox.add("c", { content: "mine" }).sent;
  await new Promise(setImmediate);
  assert.deepEqual(asked, ["mine"]);
  assert.deepEqual(outbox.of("c"), []);
  assert.deepEqual(saved.at(-1), ["secret"]);
});

test("a storage that fails is reported; one that cannot be read is not overwritten", async () => {
  let writes = 0;
  const storage = {
    load: () => {
      throw new Error("not readable");
    },
    save: () => writes++,
  };
  const { told, outbox } = setup({ storage });
  await outbox.add("c", { content: "one" }).sent;
  assert.deepEqual([told.errors[0].message, writes], ["not readable", 0]);
  const full = setup({ storage: { load: () => [], save: () => Promise.reject(new Error("full")) } });
  await full.outbox.add("c", { content: "one" }).sent;
  await new Promise(setImmediate);
  assert.equal(full.told.errors[0].message, "full");
});
