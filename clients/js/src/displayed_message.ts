import type { OutboxEntry } from "./outbox_storage.js";
import type { Message } from "./protocol.js";

/** A message as a list shows it: on record, or on its way. */
export interface ListedMessage extends Omit<Message, "seq" | "rev"> {
  /** Stays the same from the moment of sending: for React's `key`. */
  readonly key: string;
  readonly state: "sent" | "pending" | "failed";
  /** Why it failed. */
  readonly error: OutboxEntry["error"];
  /** Null until it has its place in the list: what is sent while catching up may have others before it. */
  readonly seq: number | null;
}

export function sent(message: Message, me: string): ListedMessage {
  const { id, senderId, clientMessageId } = message;
  // A clientMessageId is its sender's alone: somebody else may have the same.
  const key = clientMessageId === null ? id : senderId === me ? clientMessageId : `${senderId}:${clientMessageId}`;
  return { ...message, key, state: "sent", error: null };
}

export function pending(entry: OutboxEntry, me: string): ListedMessage {
  const { clientMessageId, conversationId, createdAt, message, error } = entry;
  return {
    key: clientMessageId,
    state: error ? "failed" : "pending",
    error,
    id: clientMessageId,
    conversationId,
    seq: null,
    senderId: entry.userId ?? me,
    content: message.content ?? "",
    attachments: message.attachments ?? [],
    replyTo: message.replyTo ?? null,
    mentions: message.mentions ?? [],
    metadata: message.metadata ?? {},
    clientMessageId,
    reactions: [],
    isEdited: false,
    isDeleted: false,
    createdAt,
    updatedAt: createdAt,
    deletedAt: null,
  };
}
