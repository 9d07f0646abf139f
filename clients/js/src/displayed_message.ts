import type { OutboxEntry } from "./outbox_storage.js";
import type { Message } from "./protocol.js";

/** A message as a list shows it: stored, or not yet. */
export interface ListedMessage extends Omit<Message, "seq" | "rev"> {
  /** Stays the same from the moment of sending. Use it as React's `key`. */
  readonly key: string;
  readonly state: "sent" | "pending" | "failed";
  /** The reason for the failure. */
  readonly error: OutboxEntry["error"];
  /** Null until its place in the list is known: during catch-up, earlier messages can still be missing. */
  readonly seq: number | null;
}

export function sent(message: Message, me: string): ListedMessage {
  const { id, senderId, clientMessageId } = message;
  // A clientMessageId is unique per sender: another user may have the same.
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
