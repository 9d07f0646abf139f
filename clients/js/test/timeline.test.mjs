import assert from "node:assert/strict";
import { test } from "node:test";
import { asChange, Timeline } from "../dist/timeline.js";
import { message } from "./model.mjs";

const told = (timeline, name, payload) => timeline.apply(asChange(name, { conversationId: "c", ...payload }));
const updated = (seq, rev, content) => ({ messageId: `m${seq}`, content, isEdited: true, updatedAt: "", seq, rev });

test("a message after a missing one is not applied, and changes nothing", () => {
  const timeline = new Timeline();
  assert.equal(told(timeline, "message:new", message(1, 1)), true);
  assert.equal(told(timeline, "message:new", message(3, 3)), false);
  assert.deepEqual([timeline.next, timeline.rev], [2, 1]);
});

test("repeated and older events change nothing", () => {
  const timeline = new Timeline();
  timeline.reset([message(1, 5, { content: "newest" })], 2, 3);
  told(timeline, "message:updated", updated(1, 3, "old"));
  told(timeline, "message:updated", updated(1, 4, "older than the page that was read"));
  assert.equal(timeline.messages[0].content, "newest");
  assert.equal(timeline.merge([message(1, 4, { content: "older" })], 4), true);
  assert.deepEqual([timeline.messages[0].content, timeline.rev], ["newest", 4]);
});

test("a user who has hidden a message does not see its changes", () => {
  const timeline = new Timeline();
  timeline.reset([message(1, 1)], 2, 1);
  told(timeline, "message:deleted", { messageId: "m1", deletedAt: "then", scope: "self", rev: 2 });
  told(timeline, "message:updated", updated(1, 3, "edited by its sender"));
  told(timeline, "reaction:added", { messageId: "m1", emoji: "👍", userId: "bob", totalCount: 1, rev: 4 });
  const [hidden] = timeline.messages;
  assert.deepEqual([hidden.isDeleted, hidden.content, hidden.reactions], [true, "", []]);
  assert.deepEqual([hidden.rev, timeline.rev], [4, 4]);
});

test("changes with messages missing between them are not merged", () => {
  const timeline = new Timeline();
  timeline.reset([message(1, 1)], 2, 1);
  assert.equal(timeline.merge([message(3, 3)], 3), false);
  assert.deepEqual([timeline.next, timeline.rev], [2, 1]);
});

test("events that do not change messages are not changes", () => {
  for (const name of ["message:read", "constructor", "conversation:new"]) assert.equal(asChange(name, {}), null);
});

test("a message shows at most fifty users of an emoji, and counts all", () => {
  const timeline = new Timeline();
  timeline.reset([message(1, 1)], 2, 1);
  const reacted = (name, n, totalCount, rev) =>
    told(timeline, `reaction:${name}`, { messageId: "m1", emoji: "👍", userId: `user-${n}`, totalCount, rev });
  for (let n = 1; n <= 60; n++) reacted("added", n, n, n + 1);
  const users = Array.from({ length: 50 }, (_, n) => `user-${n + 1}`);
  assert.deepEqual(timeline.messages[0].reactions, [{ emoji: "👍", count: 60, userIds: users }]);
  reacted("removed", 60, 59, 62);
  reacted("removed", 1, 58, 63);
  assert.deepEqual(timeline.messages[0].reactions, [{ emoji: "👍", count: 58, userIds: users.slice(1) }]);
  for (let n = 2; n <= 50; n++) reacted("removed", n, 59 - n, 62 + n);
  assert.deepEqual(timeline.messages[0].reactions, [{ emoji: "👍", count: 9, userIds: [] }]);
  reacted("removed", 51, 0, 113);
  assert.deepEqual(timeline.messages[0].reactions, []);
});
