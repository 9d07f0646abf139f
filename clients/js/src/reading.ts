import type { Connection } from "./connection.js";
import type { ListedMessage } from "./displayed_message.js";
import { Marker } from "./marker.js";
import { hasRead, lastRead, marked, type ReadEvent, type ReadMarks } from "./marks.js";
import type { Conversation as View } from "./protocol.js";
import type { Timeline } from "./timeline.js";

/** Read events kept for messages that are not loaded; older ones are dropped. */
const MOST_UNPLACED = 200;

/** How far each user has read in a conversation, including the client's own user. */
export class Reading {
  marks: ReadMarks = new Map();
  /** The time at which users joined who were not there from the beginning. Their marks pass over older messages. */
  #joinedAt = new Map<string, string>();
  #unplaced: readonly (readonly [name: string, event: ReadEvent])[] = [];
  #marker: Marker;

  constructor(
    connection: Connection,
    conversationId: string,
    private readonly userId: () => string | null,
    onError: (error: unknown) => void,
  ) {
    this.#marker = new Marker(connection, conversationId, onError);
  }

  told(name: string, event: ReadEvent, timeline: Timeline): void {
    this.#unplaced = [...this.#unplaced, [name, event] as const].slice(-MOST_UNPLACED);
    this.place(timeline);
  }

  /** Apply read events whose messages have been loaded since. */
  place(timeline: Timeline): void {
    if (this.#unplaced.length === 0) return;
    this.#unplaced = this.#unplaced.filter(([name, event]) => {
      const last = lastRead(event);
      const seq = last === null ? undefined : timeline.seqOf(last);
      if (seq !== undefined) this.marks = marked(this.marks, name, event.userId, seq);
      return last !== null && seq === undefined;
    });
  }

  joined(userId: string, at: string): void {
    this.#joinedAt.set(userId, at);
  }

  learn({ participants, createdAt }: View): void {
    for (const { userId, lastReadSeq, joinedAt } of participants) {
      if (joinedAt !== createdAt) this.joined(userId, joinedAt);
      this.marks = marked(this.marks, "conversation:read", userId, lastReadSeq);
    }
  }

  /** Returns the users who have read a message, among those whose marks are known. */
  readersOf({ seq, senderId, createdAt }: ListedMessage): readonly string[] {
    if (seq === null) return [];
    const readers = [...this.marks].filter(
      ([userId, mark]) =>
        mark.ahead.includes(seq) || (seq <= mark.upTo && createdAt >= (this.#joinedAt.get(userId) ?? "")),
    );
    return readers.map(([userId]) => userId).filter((userId) => userId !== senderId);
  }

  /** The user has seen everything up to the newest message. */
  seen(timeline: Timeline): void {
    if (timeline.last && this.#isUnread(timeline)) this.#marker.seen(timeline.last);
  }

  #isUnread({ messages, first }: Timeline): boolean {
    const me = this.userId();
    const mark = me === null ? undefined : this.marks.get(me);
    const from = Math.max(this.#marker.toldSeq, mark?.upTo ?? 0);
    for (let at = messages.length - 1; at >= 0; at--) {
      const message = messages[at]!;
      if (message.seq <= from) return false;
      if (message.senderId !== me && !message.isDeleted && !hasRead(mark, message.seq)) return true;
    }
    return first > from + 1;
  }

  /** Connected again: send the marks from the time without a connection. */
  goOn(): void {
    this.#marker.goOn();
  }

  /** The messages are unloaded. A mark that is not sent yet is still sent. */
  close(): void {
    this.marks = new Map();
    this.#joinedAt.clear();
    this.#unplaced = [];
  }

  forget(): void {
    this.close();
    this.#marker.forget();
  }
}
