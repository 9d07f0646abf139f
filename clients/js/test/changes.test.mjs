import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatError } from "../dist/index.js";
import { desk, rest } from "./desk.mjs";

const limited = () => new ChatError("RATE_LIMITED", "slow", { retryAfter: 0.02 });

test("a reaction that is removed immediately is absent in the end, even if the addition had to wait", async () => {
  const { conversation, asked, refusals } = desk();
  refusals.push(limited());
  await Promise.all([conversation.react("m1", "👍"), conversation.unreact("m1", "👍")]);
  assert.deepEqual(asked.map(([event]) => event), ["reaction:add", "reaction:add", "reaction:remove"]);
});

test("the last edit wins, and other messages do not wait for it", async () => {
  const { conversation, asked, refusals } = desk();
  refusals.push(limited());
  const edits = ["first", "second"].map((content) => conversation.edit("m1", content));
  await conversation.edit("m2", "another");
  await Promise.all(edits);
  assert.deepEqual(asked.map(([, { content }]) => content), ["first", "another", "first", "second"]);
});

test("a refused change does not block the next, and one that breaks the server is given up", async ({ mock }) => {
  const { conversation, refusals, count } = desk();
  refusals.push(new ChatError("CONFLICT", "deleted"));
  const edits = ["first", "second"].map((content) => conversation.edit("m1", content));
  await assert.rejects(edits[0], { code: "CONFLICT" });
  await edits[1];
  mock.timers.enable({ apis: ["setTimeout"] });
  refusals.push(...Array(5).fill(new ChatError("INTERNAL", "bug")));
  const bad = assert.rejects(conversation.delete("m1"), { code: "INTERNAL" });
  for (let n = 0; n < 5; n++) {
    await new Promise(setImmediate);
    mock.timers.tick(10_000);
  }
  await bad;
  assert.equal(count("message:delete"), 5);
});

test("a conversation that breaks the server reports it, and loads when the server is repaired", async ({ mock }) => {
  const { conversation, log, refusals, errors } = desk();
  log.send("bob", "one");
  mock.timers.enable({ apis: ["setTimeout"] });
  refusals.push(...Array(5).fill(new ChatError("INTERNAL", "bug")));
  const opening = assert.rejects(conversation.open(), { code: "INTERNAL" });
  for (let n = 0; n < 8; n++) {
    await rest();
    mock.timers.tick(10_000);
  }
  await opening;
  await rest();
  assert.deepEqual([errors.length, conversation.snapshot().status], [1, "live"]);
});
