import assert from "node:assert/strict";
import { test } from "node:test";
import { History } from "../dist/history.js";
import { asking, message } from "./model.mjs";

const yes = () => true;
const seqs = (history) => history.timeline.messages.map((message) => message.seq);

/** A server whose answers the test gives, in any order. */
function byHand() {
  const asked = [];
  const call = (_, { afterSeq, afterRev, limit }) =>
    new Promise((resolve) => {
      const answer = (messages, lastSeq, lastRev, hasMore = false) =>
        resolve({ messages, lastSeq, lastRev, hasMore });
      asked.push({ afterSeq, afterRev, limit, answer });
    });
  const next = async () => {
    for (let n = 0; asked.length === 0 && n < 100; n++) await new Promise(setImmediate);
    assert.ok(asked.length > 0, "nothing more is asked");
    return asked.shift();
  };
  return { history: new History({ ...asking, call }, "c"), next };
}

const page = (first, last, more) => Array.from({ length: last - first + 1 }, (_, n) => message(first + n, first + n, more));

async function loaded() {
  const { history, next } = byHand();
  const reading = history.catchUp(yes);
  (await next()).answer([], 100, 100);
  (await next()).answer(page(51, 100), 100, 100);
  await reading;
  return { history, next };
}

test("an older page is read again if a catch-up skipped a change of it", async () => {
  const { history, next } = await loaded();
  const loading = history.older(10);
  const asked = await next();
  const catching = history.catchUp(yes);
  // The change is in a message that is still being loaded, so catch-up skips it.
  (await next()).answer([message(45, 101, { content: "edited" })], 100, 101);
  await catching;
  asked.answer(page(41, 50), 100, 100);
  (await next()).answer([...page(41, 44), message(45, 101, { content: "edited" }), ...page(46, 50)], 100, 101);
  await loading;
  assert.deepEqual([history.timeline.first, history.timeline.messages[4].content], [41, "edited"]);
});

test("a short page is followed by the rest", async () => {
  const { history, next } = await loaded();
  const loading = history.older(10);
  (await next()).answer(page(41, 43), 100, 100, true);
  const rest = await next();
  assert.deepEqual([rest.afterSeq, rest.limit], [43, 7]);
  rest.answer(page(44, 50), 100, 100);
  await loading;
  assert.deepEqual(seqs(history), Array.from({ length: 60 }, (_, n) => n + 41));
});

test("after a very long absence the history restarts with the newest page", async () => {
  const { history, next } = await loaded();
  const catching = history.catchUp(yes);
  (await next()).answer(page(101, 300), 5_000, 5_000, true);
  (await next()).answer([], 5_000, 5_000);
  (await next()).answer(page(4_951, 5_000), 5_000, 5_000);
  await catching;
  assert.deepEqual([seqs(history)[0], history.timeline.last.seq, history.timeline.rev], [4_951, 5_000, 5_000]);
});

test("after very many missed changes of old messages it restarts, too", async () => {
  const { history, next } = await loaded();
  const catching = history.catchUp(yes);
  // Messages long before the loaded ones. Each page says that there is more.
  for (let rev = 101; rev <= 1_101; rev += 200) (await next()).answer(page(1, 200, { rev }), 100, 9_000, true);
  const asked = await next();
  assert.deepEqual([asked.afterRev, asked.limit], [undefined, 1]);
  asked.answer([], 100, 9_000);
  (await next()).answer(page(51, 100), 100, 9_000);
  await catching;
  assert.equal(history.timeline.rev, 9_000);
});

test("changes over many pages are applied together, each message in its last state", async () => {
  const { history, next } = await loaded();
  const catching = history.catchUp(yes);
  (await next()).answer([message(102, 102), message(99, 103, { content: "first" })], 102, 104, true);
  const second = await next();
  assert.deepEqual([second.afterRev, seqs(history).length], [103, 50]);
  second.answer([message(99, 104, { content: "second" }), message(101, 105)], 102, 105);
  await catching;
  assert.deepEqual(seqs(history).slice(-3), [100, 101, 102]);
  assert.deepEqual([history.timeline.messages[48].content, history.timeline.rev], ["second", 105]);
});
