// A model of the server's conversation, and a line to it that is slow and breaks. The same seed gives the same
// run.

import { ChatError } from "../dist/index.js";
import { insist, sleep } from "../dist/retry.js";

export function chance(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (n) => Math.floor(next() * n), one: (list) => list[Math.floor(next() * list.length)] };
}

/** The methods of a connection that only need `call`, for its stand-ins. */
export const asking = {
  online: true,
  pause: sleep,
  insist(event, payload) {
    return insist(() => this.call(event, payload), { pause: (ms) => this.pause(ms) });
  },
};

export const step = () => new Promise((wake) => setImmediate(wake));
const at = "2026-11-21T09:30:00.000Z";

export const message = (seq, rev, more = {}) => ({
  id: `m${seq}`,
  conversationId: "c",
  seq,
  rev,
  senderId: "bob",
  content: `line ${seq}`,
  attachments: [],
  replyTo: null,
  mentions: [],
  metadata: {},
  clientMessageId: null,
  reactions: [],
  isEdited: false,
  isDeleted: false,
  createdAt: at,
  updatedAt: at,
  deletedAt: null,
  ...more,
});

/** The server's side. It calls `tell(name, payload)` for each change, in order. */
export class Log {
  rev = 0;
  messages = [];
  /** Messages by clientMessageId, as they were sent. */
  firsts = [];
  tell = () => undefined;
  #hidden = new Set();

  send(senderId, content, clientMessageId = null) {
    const known = this.messages.find((message) => clientMessageId && message.clientMessageId === clientMessageId);
    if (known) return known;
    const seq = this.messages.length + 1;
    const sent = message(seq, ++this.rev, { senderId, content, clientMessageId });
    this.messages.push(sent);
    if (clientMessageId) this.firsts.push(content);
    this.tell("message:new", sent);
    return sent;
  }

  #put(seq, changes) {
    const rev = ++this.rev;
    return (this.messages[seq - 1] = { ...this.messages[seq - 1], ...changes, rev });
  }

  edit(seq, content) {
    if (this.messages[seq - 1].isDeleted && !this.#hidden.has(seq)) return;
    const { id, rev, updatedAt } = this.#put(seq, this.#hidden.has(seq) ? {} : { content, isEdited: true });
    this.tell("message:updated", { messageId: id, conversationId: "c", content, isEdited: true, updatedAt, seq, rev });
  }

  delete(seq) {
    if (this.messages[seq - 1].isDeleted) return;
    const nothing = { content: "", reactions: [], isDeleted: true, deletedAt: at };
    const { id, rev } = this.#put(seq, nothing);
    this.tell("message:deleted", { messageId: id, conversationId: "c", deletedAt: at, scope: "everyone", rev });
  }

  /** Alice hides a message from herself. Others still change it, and she receives the events but sees nothing. */
  hide(seq) {
    if (this.messages[seq - 1].isDeleted) return;
    this.#hidden.add(seq);
    const { id, rev } = this.#put(seq, { content: "", reactions: [], isDeleted: true, deletedAt: at });
    this.tell("message:deleted", { messageId: id, conversationId: "c", deletedAt: at, scope: "self", rev });
  }

  react(seq, emoji, userId) {
    const { reactions, isDeleted } = this.messages[seq - 1];
    if (isDeleted) return;
    const before = reactions.find((reaction) => reaction.emoji === emoji)?.userIds ?? [];
    const has = before.includes(userId);
    const userIds = has ? before.filter((id) => id !== userId) : [...before, userId];
    const own = { emoji, count: userIds.length, userIds };
    const known = reactions.some((reaction) => reaction.emoji === emoji);
    const all = known ? reactions.map((reaction) => (reaction.emoji === emoji ? own : reaction)) : [...reactions, own];
    const after = all.filter((reaction) => reaction.count > 0);
    const { id, rev } = this.#put(seq, { reactions: after });
    const payload = { messageId: id, conversationId: "c", emoji, userId, totalCount: userIds.length, rev };
    this.tell(has ? "reaction:removed" : "reaction:added", payload);
  }

  /** Another user hides a message from themselves: a rev that Alice does not see. */
  skip() {
    this.rev++;
  }

  page({ afterRev, afterSeq, limit }) {
    const found =
      afterRev === undefined
        ? this.messages.filter((message) => message.seq > afterSeq)
        : this.messages.filter((message) => message.rev > afterRev).sort((a, b) => a.rev - b.rev);
    return { messages: found.slice(0, limit), hasMore: found.length > limit };
  }
}

/** A connection to it. Events and answers arrive in order, late, or not at all. */
export class Line {
  online = false;
  lossy = true;
  #queue = [];
  #life = 0;

  constructor(log, random, heard) {
    this.log = log;
    this.random = random;
    log.tell = (name, payload) => {
      // A lost `message:new` is against the protocol. The client notices it with the next message.
      const lost = this.lossy && name === "message:new" && random.next() < 0.05;
      if (this.online && !lost) this.#queue.push(() => heard(name, payload));
    };
  }

  tell() {}

  pause = asking.pause;
  insist = asking.insist;

  cut() {
    this.online = false;
    this.#life++;
    for (const packet of this.#queue.splice(0)) packet.lost?.();
  }

  /** A part of the packets in flight arrives. */
  arrive(most = Infinity) {
    for (let n = 0; n < most && this.#queue.length; n++) this.#queue.shift()();
  }

  get quiet() {
    return this.#queue.length === 0;
  }

  async call(event, asked) {
    const offline = new ChatError("OFFLINE", "cut");
    if (!this.online) throw offline;
    const life = this.#life;
    await this.#pause();
    if (life !== this.#life && this.random.next() < 0.5) throw offline; // The request did not arrive.
    const answer = event === "message:send" ? this.#send(asked) : event === "messages:sync" ? await this.#sync(asked) : {};
    if (life !== this.#life) throw offline; // The request arrived, but the answer is lost.
    return new Promise((resolve, reject) => {
      this.#queue.push(Object.assign(() => resolve(answer), { lost: () => reject(offline) }));
    });
  }

  #send({ content, clientMessageId }) {
    if (content === "refuse me") throw new ChatError("VALIDATION_FAILED", "no");
    if (this.random.next() < 0.1) throw new ChatError("RATE_LIMITED", "slow", { retryAfter: 0.001 });
    return this.log.send("alice", content, clientMessageId);
  }

  async #sync(asked) {
    const { rev: lastRev } = this.log;
    const lastSeq = this.log.messages.length;
    await this.#pause();
    const page = this.log.page(asked);
    // Pages may be short.
    if (page.messages.length > 1 && this.random.next() < 0.3) {
      page.messages = page.messages.slice(0, 1 + this.random.below(page.messages.length - 1));
      page.hasMore = true;
    }
    return { conversationId: "c", ...page, lastSeq, lastRev };
  }

  async #pause() {
    for (let n = this.random.below(4); n > 0; n--) await step();
  }
}
