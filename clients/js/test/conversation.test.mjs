import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversation } from "../dist/conversation.js";
import { Outbox } from "../dist/outbox.js";
import { chance, Line, Log, step } from "./model.mjs";

const SEEDS = Number(process.env.SEEDS ?? 150);

/** Alice's conversation on a line that breaks, while everything in the conversation changes. */
async function life(seed) {
  const random = chance(seed);
  const log = new Log();
  const errors = [];
  let conversation;
  const line = new Line(log, random, (name, payload) => conversation.event(name, payload));
  const told = { changed: () => conversation?.outboxChanged(), error: (error) => errors.push(error) };
  const outbox = new Outbox(line, { ...told, acknowledged: (message) => conversation.acknowledged(message) }, null);
  const around = { connection: line, outbox, userId: () => "alice", enter: () => null, view: async () => null, watch: () => () => undefined, error: told.error };
  conversation = new Conversation("c", around);
  const connect = () => {
    line.online = true;
    conversation.connected(true);
    void outbox.flush("alice");
  };
  conversation.subscribe(() => inOrder(conversation.snapshot()));
  for (let n = random.below(120); n > 0; n--) log.send("bob", `before ${n}`);
  void conversation.open();

  const said = [];
  const some = () => 1 + random.below(log.messages.length);
  const deeds = [
    () => log.send("bob", `bob ${log.rev}`),
    () => log.messages.length && log.edit(some(), `edited ${log.rev}`),
    () => log.messages.length && log.react(some(), random.one(["👍", "👎"]), random.one(["bob", "carol"])),
    () => log.messages.length && random.next() < 0.3 && log.delete(some()),
    () => log.messages.length && random.next() < 0.3 && log.hide(some()),
    () => log.skip(),
    () => conversation.markRead(),
    () => {
      const content = random.next() < 0.1 ? "refuse me" : `alice ${said.length}`;
      conversation.send(content);
      if (content !== "refuse me") said.push(content);
    },
    () => random.next() < 0.3 && conversation.loadOlder(1 + random.below(40)).catch(() => undefined),
    () => (line.online ? random.next() < 0.15 && (line.cut(), conversation.disconnected()) : connect()),
  ];
  for (let n = 0; n < 150; n++) {
    random.one(deeds)();
    if (random.next() < 0.5) line.arrive(random.below(5));
    if (random.next() < 0.5) await step();
  }
  if (!line.online) connect();
  line.lossy = false;
  let last = null;
  const end = Date.now() + 10_000;
  const done = () =>
    line.quiet && conversation.snapshot().status === "live" && outbox.of("c").every((entry) => entry.error);
  while (!done() || !last) {
    assert.ok(Date.now() < end, `seed ${seed}: it does not come to rest`);
    line.arrive();
    await step();
    if (done()) last ??= log.send("bob", "the last message");
  }
  return { log, line, conversation, said, errors };
}

function inOrder({ messages }) {
  const seqs = messages.map((message) => message.seq);
  const sent = seqs.filter((seq) => seq !== null);
  sent.forEach((seq, n) => assert.equal(seq, sent[0] + n));
  assert.deepEqual(seqs.slice(sent.length), Array(seqs.length - sent.length).fill(null));
  assert.equal(new Set(messages.map((message) => message.key)).size, messages.length);
}

const plain = ({ key, state, error, rev, seq, ...message }) => ({ seq, ...message });

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`whatever the line does, the list ends as the log is (seed ${seed})`, async () => {
    const { log, conversation, said, errors } = await life(seed);
    const { messages } = conversation.snapshot();
    const sent = messages.filter((message) => message.state === "sent");
    const first = sent[0]?.seq ?? log.messages.length + 1;
    assert.deepEqual(sent.map(plain), log.messages.slice(first - 1).map(plain));
    const failed = messages.filter((message) => message.state === "failed");
    assert.deepEqual(new Set(failed.map((message) => message.content)), new Set(failed.length ? ["refuse me"] : []));
    assert.equal(failed.length + sent.length, messages.length);
    assert.deepEqual(log.firsts, said);
    assert.deepEqual(errors, []);
  });
}

test("a conversation that is opened twice stays up to date until it is closed twice", async () => {
  const line = new Line(new Log(), chance(1), () => undefined);
  const outbox = new Outbox(line, { changed: () => undefined }, null);
  const conversation = new Conversation("c", { connection: line, outbox, userId: () => "alice", enter: () => null, view: async () => null, watch: () => () => undefined });
  void conversation.open();
  void conversation.open();
  conversation.close();
  assert.equal(conversation.snapshot().status, "loading");
  conversation.close();
  conversation.close();
  assert.equal(conversation.snapshot().status, "idle");
});
