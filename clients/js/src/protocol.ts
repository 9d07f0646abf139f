// Written by ./scripts/protocol --write: change the rows of the server, not this file.

export type Metadata = Readonly<Record<string, string | number | boolean | null>>;

export interface Attachment {
  readonly type: "image" | "video" | "audio" | "file";
  readonly url: string;
  readonly name?: string;
  readonly mimeType?: string;
  readonly size?: number;
  readonly width?: number;
  readonly height?: number;
  readonly durationMs?: number;
  readonly thumbnailUrl?: string;
}

export interface Message {
  readonly id: string;
  readonly conversationId: string;
  readonly seq: number;
  readonly rev: number;
  readonly senderId: string;
  readonly content: string;
  readonly attachments: readonly Attachment[];
  readonly replyTo: string | null;
  readonly mentions: readonly string[];
  readonly metadata: Metadata;
  readonly clientMessageId: string | null;
  readonly reactions: readonly { readonly emoji: string; readonly count: number; readonly userIds: readonly string[] }[];
  readonly isEdited: boolean;
  readonly isDeleted: boolean;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly deletedAt: string | null;
}

export interface Conversation {
  readonly id: string;
  readonly type: "direct" | "group" | "channel";
  readonly name: string | null;
  readonly avatarUrl: string | null;
  readonly metadata: Metadata;
  readonly createdBy: string;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly lastSeq: number;
  readonly lastRev: number;
  readonly lastMessage: Message | null;
  readonly participantCount: number;
  readonly isLarge: boolean;
  readonly participants: readonly Participant[];
}

export interface Participant {
  readonly userId: string;
  readonly role: "owner" | "admin" | "member";
  readonly joinedAt: string;
  readonly lastReadSeq: number;
}

export type ErrorCode =
  | "CONFLICT"
  | "FORBIDDEN"
  | "INTERNAL"
  | "NOT_FOUND"
  | "PAYLOAD_TOO_LARGE"
  | "RATE_LIMITED"
  | "TOKEN_EXPIRED"
  | "UNAUTHENTICATED"
  | "UNAVAILABLE"
  | "VALIDATION_FAILED";

export interface ErrorShape {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly timestamp: string;
  readonly event?: string;
}

/** Payloads of the events that a client can send. */
export interface Requests {
  "message:send": { readonly conversationId: string; readonly content?: string; readonly attachments?: readonly Attachment[]; readonly replyTo?: string | null; readonly clientMessageId?: string | null; readonly mentions?: readonly string[]; readonly metadata?: Metadata };
  "message:edit": { readonly messageId: string; readonly content: string };
  "message:delete": { readonly messageId: string; readonly scope?: "everyone" | "self" };
  "messages:sync": { readonly conversationId: string; readonly lastMessageId?: string | null; readonly afterSeq?: number; readonly afterRev?: number; readonly limit?: number };
  "reaction:add": { readonly messageId: string; readonly emoji: string };
  "reaction:remove": { readonly messageId: string; readonly emoji: string };
  "message:read": { readonly messageId: string };
  "conversation:read": { readonly conversationId: string; readonly upToMessageId?: string | null };
  "presence:subscribe": { readonly userIds: readonly string[] };
  "presence:unsubscribe": { readonly userIds: readonly string[] };
  "typing:start": { readonly conversationId: string };
  "typing:stop": { readonly conversationId: string };
  "recording:start": { readonly conversationId: string };
  "recording:stop": { readonly conversationId: string };
  "activity:ping": Record<string, never>;
  "ping": Record<string, never>;
  "room:join": { readonly conversationId: string };
  "room:leave": { readonly conversationId: string };
  "auth:refresh": { readonly token: string };
}

/** The `data` of the acknowledgements. */
export interface Answers {
  "message:send": Message;
  "message:edit": Message;
  "message:delete": { readonly messageId: string; readonly conversationId: string; readonly deletedAt: string; readonly scope: "everyone" | "self" };
  "messages:sync": { readonly conversationId: string; readonly messages: readonly Message[]; readonly hasMore: boolean; readonly lastSeq: number; readonly lastRev: number };
  "reaction:add": { readonly messageId: string; readonly conversationId: string; readonly emoji: string; readonly userId: string; readonly totalCount: number };
  "reaction:remove": { readonly messageId: string; readonly conversationId: string; readonly emoji: string; readonly userId: string; readonly totalCount: number };
  "message:read": { readonly messageId: string; readonly conversationId: string; readonly userId: string; readonly readAt: string };
  "conversation:read": { readonly conversationId: string; readonly userId: string; readonly upToMessageId: string | null; readonly count: number; readonly readAt: string };
  "presence:subscribe": { readonly items: readonly { readonly userId: string; readonly status: "online" | "offline"; readonly lastSeen: string | null }[] };
  "presence:unsubscribe": Record<string, never>;
  "typing:start": Record<string, never>;
  "typing:stop": Record<string, never>;
  "recording:start": Record<string, never>;
  "recording:stop": Record<string, never>;
  "activity:ping": { readonly timestamp: string };
  "ping": { readonly timestamp: string };
  "room:join": { readonly conversationId: string };
  "room:leave": { readonly conversationId: string };
  "auth:refresh": { readonly expiresAt: string };
}

/** Payloads of the events that the server sends. */
export interface ServerEvents {
  "connected": { readonly userId: string; readonly socketId: string; readonly rooms: readonly string[]; readonly roomsTruncated?: boolean; readonly timestamp: string };
  "error": ErrorShape;
  "pong": { readonly timestamp: string };
  "message:new": Message;
  "message:updated": { readonly messageId: string; readonly conversationId: string; readonly content: string; readonly isEdited: boolean; readonly updatedAt: string; readonly seq: number; readonly rev: number };
  "message:deleted": { readonly messageId: string; readonly conversationId: string; readonly deletedAt: string; readonly scope: "everyone" | "self"; readonly rev: number };
  "reaction:added": { readonly messageId: string; readonly conversationId: string; readonly emoji: string; readonly userId: string; readonly totalCount: number; readonly rev: number };
  "reaction:removed": { readonly messageId: string; readonly conversationId: string; readonly emoji: string; readonly userId: string; readonly totalCount: number; readonly rev: number };
  "message:read": { readonly messageId: string; readonly conversationId: string; readonly userId: string; readonly readAt: string };
  "conversation:read": { readonly conversationId: string; readonly userId: string; readonly upToMessageId: string | null; readonly count: number; readonly readAt: string };
  "messages:sync": { readonly conversationId: string; readonly messages: readonly Message[]; readonly hasMore: boolean; readonly lastSeq: number; readonly lastRev: number };
  "user:typing": { readonly conversationId: string; readonly userId: string; readonly type: "typing"; readonly isActive: boolean; readonly timestamp: string };
  "user:recording": { readonly conversationId: string; readonly userId: string; readonly type: "recording"; readonly isActive: boolean; readonly timestamp: string };
  "user:online": { readonly userId: string; readonly timestamp: string };
  "user:offline": { readonly userId: string; readonly lastSeen: string; readonly timestamp: string };
  "conversation:new": Conversation;
  "conversation:joined": Conversation;
  "conversation:removed": { readonly conversationId: string };
  "conversation:updated": Conversation;
  "participant:added": { readonly conversationId: string; readonly userId: string; readonly timestamp: string };
  "participant:removed": { readonly conversationId: string; readonly userId: string; readonly timestamp: string };
  "participants:changed": { readonly conversationId: string; readonly participantCount: number; readonly timestamp: string };
}
