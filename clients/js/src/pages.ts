import type { Conversation, Message } from "./protocol.js";

/** A part of a list. `nextCursor` is null on the last page. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor: string | null;
}

export interface PageQuery {
  readonly limit?: number;
  /** The `nextCursor` of the page before. */
  readonly cursor?: string;
}

export interface ReactionQuery extends PageQuery {
  /** Only this one. */
  readonly emoji?: string;
}

export type Participant = Conversation["participants"][number];

export interface ParticipantQuery extends PageQuery {
  /** Only those with this role. */
  readonly role?: Participant["role"];
}

export type Reaction = Message["reactions"][number];

export interface Reader {
  readonly userId: string;
  /** Null if the server does not keep the time any more. */
  readonly readAt: string | null;
}

/** Returns the query of a URL, with its question mark, or "". */
export function query(asked: ReactionQuery | ParticipantQuery): string {
  const given = Object.entries(asked).filter(([, value]) => value !== undefined);
  return given.length === 0 ? "" : `?${new URLSearchParams(given.map(([key, value]) => [key, String(value)]))}`;
}
