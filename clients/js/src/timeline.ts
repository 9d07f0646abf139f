import type { Message, ServerEvents } from "./protocol.js";

type Told = Pick<
  ServerEvents,
  "message:new" | "message:updated" | "message:deleted" | "reaction:added" | "reaction:removed"
>;

/** An event that changes the messages of a conversation. Its `rev` is its place in the order of changes. */
export type Change = { [N in keyof Told]: { readonly name: N; readonly payload: Told[N] } }[keyof Told];

const CHANGES: Record<keyof Told, true> = {
  "message:new": true,
  "message:updated": true,
  "message:deleted": true,
  "reaction:added": true,
  "reaction:removed": true,
};

export function asChange(name: string, payload: unknown): Change | null {
  return Object.hasOwn(CHANGES, name) ? ({ name, payload } as Change) : null;
}

/** The newest messages of a conversation at `rev`, with no seq missing between them. */
export class Timeline {
  /** Increases when messages arrive or change in another way than through `apply`. */
  generation = 0;
  rev = 0;
  /** The seq of the first message. If there is none, that of the next new message. */
  first = 1;
  #messages: Message[] = [];
  #seqs = new Map<string, number>();
  #early: Exclude<Change, { name: "message:new" }>[] | null = null;

  get messages(): readonly Message[] {
    return this.#messages;
  }

  get next(): number {
    return this.first + this.#messages.length;
  }

  get last(): Message | undefined {
    return this.#messages.at(-1);
  }

  seqOf(messageId: string): number | undefined {
    return this.#seqs.get(messageId);
  }

  /** Apply a change. Returns false, and does nothing, if messages before it are missing. */
  apply(change: Change): boolean {
    const { rev } = change.payload;
    if (rev <= this.rev) return true;
    if (change.name === "message:new") {
      if (change.payload.seq > this.next) return false;
      this.#put(change.payload);
    } else {
      this.#change(change);
    }
    this.rev = rev;
    return true;
  }

  #change(change: Exclude<Change, { name: "message:new" }>): void {
    const seq = this.#seqs.get(change.payload.messageId);
    const message = seq === undefined ? undefined : this.#messages[seq - this.first];
    if (!message) this.#early?.push(change);
    else this.#put(changed(message, change));
  }

  /** Restart with consecutive messages up to the newest. */
  reset(messages: readonly Message[], next: number, rev: number): void {
    this.generation++;
    this.#messages = [];
    this.#seqs.clear();
    this.first = next - messages.length;
    this.rev = rev;
    for (const message of messages) this.#put(message);
  }

  /**
   * Merge messages that are new or have changed since `rev`, in any order. Returns false, and does nothing, if
   * messages are missing between these and the present ones.
   */
  merge(messages: readonly Message[], rev: number): boolean {
    const sorted = messages.filter((message) => message.seq >= this.first).sort((a, b) => a.seq - b.seq);
    const added = new Set(sorted.filter((message) => message.seq >= this.next).map((message) => message.seq));
    const end = sorted.at(-1)?.seq ?? 0;
    if (end >= this.next && added.size !== end - this.next + 1) return false;
    this.generation++;
    for (const message of sorted) this.#put(message);
    this.rev = Math.max(this.rev, rev);
    return true;
  }

  /** Older messages were requested. Their changes from now on may or may not be in the answer, so keep them. */
  expectOlder(): void {
    this.#early = [];
  }

  expectNothing(): void {
    this.#early = null;
  }

  /** Insert older messages. The last of them must have the seq before `first`. */
  prepend(messages: readonly Message[]): void {
    this.first -= messages.length;
    this.#messages = [...messages, ...this.#messages];
    for (const message of messages) this.#seqs.set(message.id, message.seq);
    const early = this.#early;
    this.#early = null;
    for (const change of early ?? []) this.#change(change);
  }

  #put(message: Message): void {
    const at = message.seq - this.first;
    const here = this.#messages[at];
    if (at < 0 || (here && here.rev > message.rev)) return;
    this.#messages[at] = message;
    this.#seqs.set(message.id, message.seq);
  }
}

/** Returns the message after the change. */
export function changed(message: Message, change: Exclude<Change, { name: "message:new" }>): Message {
  const { rev } = change.payload;
  // A user who hid a message still receives its edits and reactions.
  if (message.isDeleted) return { ...message, rev };
  switch (change.name) {
    case "message:updated": {
      const { content, isEdited, updatedAt } = change.payload;
      return { ...message, content, isEdited, updatedAt, rev };
    }
    case "message:deleted": {
      const { deletedAt } = change.payload;
      const nothing = { content: "", attachments: [], mentions: [], metadata: {}, reactions: [] };
      return { ...message, ...nothing, isDeleted: true, deletedAt, updatedAt: deletedAt, rev };
    }
    case "reaction:added":
    case "reaction:removed":
      return { ...message, reactions: reacted(message.reactions, change), rev };
  }
}

/** The most `userIds` of an emoji in a message, as on the server. Other users are counted. */
const MOST_SHOWN = 50;

type Reactions = Message["reactions"];
type Reacted = Extract<Change, { name: "reaction:added" | "reaction:removed" }>;

function reacted(reactions: Reactions, { name, payload }: Reacted): Reactions {
  const { emoji, userId, totalCount: count } = payload;
  const before = reactions.find((reaction) => reaction.emoji === emoji);
  let userIds = before?.userIds ?? [];
  if (name === "reaction:removed") userIds = userIds.filter((id) => id !== userId);
  else if (!userIds.includes(userId) && userIds.length < MOST_SHOWN) userIds = [...userIds, userId];
  if (count === 0) return reactions.filter((reaction) => reaction !== before);
  const after = { emoji, count, userIds };
  return before ? reactions.map((reaction) => (reaction === before ? after : reaction)) : [...reactions, after];
}
