import type { ServerEvents } from "./protocol.js";

/** How far a user has read: everything up to a seq, and single messages after it. */
export interface ReadMark {
  readonly upTo: number;
  readonly ahead: readonly number[];
}

export type ReadMarks = ReadonlyMap<string, ReadMark>;

export const hasRead = (mark: ReadMark | undefined, seq: number): boolean =>
  mark !== undefined && (seq <= mark.upTo || mark.ahead.includes(seq));

/** Returns the marks after a read event for the message with this seq. */
export function marked(marks: ReadMarks, name: string, userId: string, seq: number): ReadMarks {
  const mark = marks.get(userId) ?? { upTo: 0, ahead: [] };
  if (hasRead(mark, seq)) return marks;
  const upTo = name === "conversation:read" ? seq : mark.upTo;
  const ahead = name === "conversation:read" ? mark.ahead.filter((aheadSeq) => aheadSeq > seq) : [...mark.ahead, seq];
  return new Map(marks).set(userId, { upTo, ahead });
}

export type ReadEvent = ServerEvents["conversation:read"] | ServerEvents["message:read"];

export const lastRead = (event: ReadEvent): string | null =>
  "messageId" in event ? event.messageId : event.upToMessageId;
