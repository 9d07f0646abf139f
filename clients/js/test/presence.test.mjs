import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceMap } from "../dist/presence.js";

const rest = async () => {
  for (let n = 0; n < 20; n++) await new Promise(setImmediate);
};
const ids = (from, to) => Array.from({ length: to - from }, (_, n) => `user ${from + n}`);

/** A server with its answers, which is online. `hold()`: the next answers wait until `release()`. */
function setup() {
  const asked = [];
  const errors = [];
  let held = null;
  const line = {
    online: true,
    insist: async (event, { userIds }) => {
      asked.push([event.split(":")[1], userIds.length > 3 ? userIds.length : userIds.join()]);
      if (held) await new Promise((release) => held.push(release));
      return { items: userIds.map((userId) => ({ userId, status: "offline", lastSeen: "then" })) };
    },
  };
  const presence = new PresenceMap(line, (error) => errors.push(error));
  const shown = () => Object.fromEntries([...presence.snapshot()].map(([id, { status }]) => [id, status]));
  const release = () => (held.splice(0).forEach((go) => go()), (held = null));
  return { line, presence, asked, errors, shown, hold: () => (held = []), release };
}

test("users are watched as long as anybody watches them, and again after each connect", async () => {
  const { line, presence, asked, shown } = setup();
  line.online = false;
  const first = presence.watch(["bob", "carol", "bob"]);
  await rest();
  assert.deepEqual(asked, []);
  line.online = true;
  presence.connected();
  await rest();
  const second = presence.watch(["bob"]);
  await rest();
  presence.event("user:online", { userId: "passer-by" });
  first();
  first();
  await rest();
  assert.deepEqual(asked.splice(0), [["subscribe", "bob,carol"], ["unsubscribe", "carol"]]);
  assert.deepEqual(shown(), { bob: "offline", "passer-by": "online" });

  line.online = false;
  presence.disconnected();
  assert.deepEqual(shown(), {});
  line.online = true;
  presence.connected();
  await rest();
  assert.deepEqual(asked.splice(0), [["subscribe", "bob"]]);
  second();
  await rest();
  assert.deepEqual(asked, [["unsubscribe", "bob"]]);
});

test("a page that is left for another one asks only for the difference", async () => {
  const { presence, asked } = setup();
  presence.connected();
  const before = presence.watch(["bob", "carol"]);
  await rest();
  presence.watch(["carol", "dora"]);
  before();
  await rest();
  assert.deepEqual(asked, [["subscribe", "bob,carol"], ["unsubscribe", "bob"], ["subscribe", "dora"]]);
});

test("an event is newer than the answer", async () => {
  const { presence, shown, hold, release } = setup();
  hold();
  presence.watch(["bob", "carol"]);
  await rest();
  presence.event("user:online", { userId: "bob" });
  release();
  await rest();
  assert.deepEqual(shown(), { bob: "online", carol: "offline" });
});

test("an answer that belongs to a lost connection is ignored, and the next one asks again", async () => {
  const { line, presence, asked, shown, hold, release } = setup();
  hold();
  presence.watch(["bob"]);
  await rest();
  line.online = false;
  presence.disconnected();
  line.online = true;
  presence.connected();
  release();
  await rest();
  assert.deepEqual(asked, [["subscribe", "bob"], ["subscribe", "bob"]]);
  assert.deepEqual(shown(), { bob: "offline" });
});

test("at most 1,000 users are watched, in requests of 200, and the others wait", async () => {
  const { presence, asked, errors } = setup();
  const first = presence.watch(ids(0, 300));
  presence.watch(ids(300, 1100));
  await rest();
  assert.deepEqual(asked.splice(0), Array(5).fill(["subscribe", 200]));
  first();
  await rest();
  assert.deepEqual(asked, [["unsubscribe", 300], ["subscribe", 100]]);
  assert.deepEqual(errors, []);
});

test("when memberships change, the watched users whom it concerns are asked for again", async () => {
  const { presence, asked } = setup();
  presence.watch(["bob", "carol"]);
  await rest();
  asked.length = 0;
  presence.event("participant:removed", { conversationId: "c", userId: "bob" });
  presence.event("participant:added", { conversationId: "c", userId: "dora" });
  await rest();
  presence.event("conversation:joined", { id: "c", participants: [{ userId: "carol" }, { userId: "dora" }] });
  await rest();
  presence.event("conversation:removed", { conversationId: "c" });
  await rest();
  assert.deepEqual(asked, [["subscribe", "bob"], ["subscribe", "carol"], ["subscribe", "bob,carol"]]);
});
