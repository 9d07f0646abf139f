import assert from "node:assert/strict";
import { test } from "node:test";
import { Activity } from "../dist/activity.js";
import { afterEvent, inOrder, needsRevalidation } from "../dist/overview.js";
import { Store } from "../dist/store.js";
import { endOf, Tokens } from "../dist/tokens.js";
import { hasRead, marked } from "../dist/marks.js";
import { message } from "./model.mjs";

test("typing is sent every three seconds at most, and its stop once", ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const told = [];
  const typing = new Activity({ tell: (name) => told.push([Date.now(), name]) }, "typing", "c");
  for (let n = 0; n < 70; n++, mock.timers.tick(100)) typing.goesOn();
  for (let n = 0; n < 100; n++) mock.timers.tick(100);
  typing.ends();
  typing.goesOn();
  typing.ends();
  assert.deepEqual(told, [
    [0, "typing:start"],
    [3_000, "typing:start"],
    [6_000, "typing:start"],
    [10_900, "typing:stop"],
    [17_000, "typing:start"],
    [17_000, "typing:stop"],
  ]);
});

const view = (id, more = {}) => ({
  id,
  createdAt: "2026-01-01",
  lastSeq: 0,
  lastRev: 0,
  lastMessage: null,
  participants: [{ userId: "alice", role: "member", joinedAt: "", lastReadSeq: 0 }],
  participantCount: 1,
  unreadCount: 0,
  ...more,
});
const list = (...views) => new Map(views.map((view) => [view.id, view]));
const after = (list, ...events) => events.reduce((now, [name, payload]) => afterEvent(now, name, payload, "alice"), list);
const unread = (list) => list.get("c").unreadCount;

test("messages of other users are unread, once each", () => {
  const said = ["message:new", message(1, 1)];
  const mine = ["message:new", message(2, 2, { senderId: "alice" })];
  assert.equal(unread(after(list(view("c")), said, said, mine)), 1);
  assert.equal(unread(after(list(view("c", { unreadCount: null })), said)), null);
});

test("reading up to the newest message leaves nothing unread; for anything else the count is requested", () => {
  const before = after(list(view("c", { unreadCount: 4 })), ["message:new", message(1, 1)]);
  const read = (upToMessageId) => ({ conversationId: "c", userId: "alice", upToMessageId, count: 2 });
  assert.equal(unread(after(before, ["conversation:read", read("m1")])), 0);
  assert.equal(needsRevalidation(before, "conversation:read", read("m1"), "alice"), null);
  assert.equal(unread(after(before, ["conversation:read", read("m0")])), 3);
  assert.equal(needsRevalidation(before, "conversation:read", read("m0"), "alice"), "c");
  assert.equal(needsRevalidation(before, "conversation:read", { ...read("m0"), userId: "bob" }, "alice"), null);
  assert.equal(needsRevalidation(before, "message:deleted", { conversationId: "c" }, "alice"), "c");
});

test("the list is ordered by last message, and shows the current one", () => {
  const late = message(1, 1, { conversationId: "b", createdAt: "2026-02-01" });
  const edit = { conversationId: "b", messageId: "m1", content: "edited", isEdited: true, updatedAt: "", seq: 1, rev: 2 };
  const now = after(list(view("a"), view("b"), view("c")), ["message:new", late], ["message:updated", edit]);
  assert.deepEqual(inOrder(now).map((conversation) => conversation.id), ["b", "c", "a"]);
  assert.equal(now.get("b").lastMessage.content, "edited");
  // An older view does not undo it.
  const renamed = after(now, ["conversation:updated", view("b", { name: "New", lastMessage: late, lastRev: 1 })]);
  assert.deepEqual([renamed.get("b").name, renamed.get("b").lastMessage.content], ["New", "edited"]);
});

test("a listener that throws stops neither the others nor the store", ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const store = new Store(1);
  const seen = [];
  store.subscribe(() => {
    throw new Error("of the app");
  });
  const end = store.subscribe(() => seen.push(store.snapshot()));
  store.set(2);
  store.set(2);
  end();
  store.set(3);
  assert.deepEqual(seen, [2]);
  assert.throws(() => mock.timers.tick(1), /of the app/);
});

test("the expiry of a token is read where possible", async () => {
  const payload = Buffer.from(JSON.stringify({ exp: 1_800_000_000.5, sub: "ü~~~???" })).toString("base64url");
  assert.equal(endOf(`x.${payload}.y`), 1_800_000_000_500);
  for (const token of ["", "opaque", "a.b.c", `a.${Buffer.from("null").toString("base64url")}.c`]) {
    assert.equal(endOf(token), null);
  }
  let asked = 0;
  const tokens = new Tokens(async () => `token ${++asked}`);
  assert.deepEqual(await Promise.all([tokens.fresh(), tokens.fresh(), tokens.current()]), Array(3).fill("token 1"));
  const failing = new Tokens(() => Promise.reject(new Error("no session")));
  await assert.rejects(failing.fresh(), { code: "NO_TOKEN" });
});

test("marks never go back", () => {
  let marks = marked(new Map(), "message:read", "bob", 5);
  assert.deepEqual([4, 5, 6].map((seq) => hasRead(marks.get("bob"), seq)), [false, true, false]);
  marks = marked(marks, "conversation:read", "bob", 6);
  assert.deepEqual(marks.get("bob"), { upTo: 6, ahead: [] });
  assert.equal(marked(marks, "conversation:read", "bob", 3), marks);
});
