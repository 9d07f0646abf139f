import type { Conversation, Message, ServerEvents } from "./protocol.js";
import { asChange, changed } from "./timeline.js";

/** Participants in a view; the server shows no more. */
const MOST_SHOWN = 100;

/** A conversation in the list. */
export interface ListedConversation extends Conversation {
  /** Null if unknown: without `api`, until an event tells it. */
  readonly unreadCount: number | null;
}

export type Overview = ReadonlyMap<string, ListedConversation>;

/** Returns the list after an event. The same object if the event does not change it. */
export function afterEvent(list: Overview, name: string, payload: unknown, me: string): Overview {
  switch (name) {
    case "conversation:new":
    case "conversation:joined":
    case "conversation:updated":
      return told(list, payload as Conversation, name === "conversation:new");
    case "conversation:removed": {
      const { conversationId } = payload as ServerEvents["conversation:removed"];
      if (!list.has(conversationId)) return list;
      const rest = new Map(list);
      rest.delete(conversationId);
      return rest;
    }
    case "participant:added":
    case "participant:removed":
      return participants(list, payload as ServerEvents["participant:added"], name === "participant:added");
    case "participants:changed": {
      const { conversationId, participantCount } = payload as ServerEvents["participants:changed"];
      const conversation = list.get(conversationId);
      return conversation ? put(list, { ...conversation, participantCount, isLarge: true }) : list;
    }
    case "conversation:read":
    case "message:read":
      return read(list, payload as ServerEvents["conversation:read"], me);
  }
  const change = asChange(name, payload);
  const conversation = change && list.get(change.payload.conversationId);
  if (!conversation || change.payload.rev <= conversation.lastRev) return list;
  const { lastMessage } = conversation;
  const after = { ...conversation, lastRev: change.payload.rev };
  if (change.name === "message:new") {
    const message = change.payload;
    if (message.seq <= conversation.lastSeq) return list;
    const unread = conversation.unreadCount === null || message.senderId === me ? 0 : 1;
    const unreadCount = conversation.unreadCount === null ? null : conversation.unreadCount + unread;
    return put(list, { ...after, lastMessage: message, lastSeq: message.seq, unreadCount });
  }
  if (lastMessage?.id !== change.payload.messageId) return put(list, after);
  return put(list, { ...after, lastMessage: changed(lastMessage, change) });
}

/** Returns the conversation for which, after this event, only the server knows a count or a participant; or null. */
export function needsRevalidation(list: Overview, name: string, payload: unknown, me: string): string | null {
  if (name === "conversation:joined") return (payload as Conversation).id;
  const { conversationId, userId, upToMessageId, seq } = (payload ?? {}) as Partial<Telling>;
  const conversation = conversationId === undefined ? undefined : list.get(conversationId);
  if (!conversation) return null;
  switch (name) {
    case "message:new":
      return seq !== undefined && seq > conversation.lastSeq + 1 ? conversation.id : null;
    case "message:deleted":
      // The deleted message may have been unread. All participants get this event; those without unread messages need not ask.
      return conversation.unreadCount === 0 ? null : conversation.id;
    case "participant:added":
      return conversation.id;
    case "message:read":
      return userId === me ? conversation.id : null;
    case "conversation:read":
      return userId === me && conversation.lastMessage?.id !== upToMessageId ? conversation.id : null;
  }
  return null;
}

type Telling = ServerEvents["conversation:read"] & ServerEvents["message:new"];

/** Returns the conversations, the most recently active first. */
export function inOrder(list: Overview): readonly ListedConversation[] {
  const at = ({ lastMessage, createdAt }: ListedConversation): string => lastMessage?.createdAt ?? createdAt;
  return [...list.values()].sort((a, b) => compare(at(b), at(a)) || compare(b.id, a.id));
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function put(list: Overview, conversation: ListedConversation): Overview {
  return new Map(list).set(conversation.id, conversation);
}

function told(list: Overview, view: Conversation, isNew: boolean): Overview {
  const here = list.get(view.id);
  const unreadCount = here ? here.unreadCount : isNew ? 0 : null;
  // The view can be older than our messages, and our name older than the view.
  const newest: Message | null = here && here.lastRev >= view.lastRev ? here.lastMessage : view.lastMessage;
  const lastSeq = Math.max(view.lastSeq, here?.lastSeq ?? 0);
  const lastRev = Math.max(view.lastRev, here?.lastRev ?? 0);
  return put(list, { ...view, lastMessage: newest, lastSeq, lastRev, unreadCount });
}

function participants(list: Overview, who: ServerEvents["participant:added"], added: boolean): Overview {
  const conversation = list.get(who.conversationId);
  if (!conversation) return list;
  const others = conversation.participants.filter(({ userId }) => userId !== who.userId);
  // Right for a newcomer. For a user who comes back, only the server knows it.
  const { lastSeq: lastReadSeq } = conversation;
  const fresh = { userId: who.userId, role: "member", joinedAt: who.timestamp, lastReadSeq } as const;
  const participants = added && others.length < MOST_SHOWN ? [...others, fresh] : others;
  // Of more than MOST_SHOWN participants we know only some, and count them until the next view.
  let { participantCount } = conversation;
  const wasShown = others.length < conversation.participants.length;
  if (added && !wasShown) participantCount += 1;
  if (!added && (wasShown || participantCount > MOST_SHOWN)) participantCount -= 1;
  return put(list, { ...conversation, participants, participantCount });
}

function read(list: Overview, mark: ServerEvents["conversation:read"], me: string): Overview {
  const conversation = list.get(mark.conversationId);
  if (!conversation) return list;
  const all = mark.upToMessageId !== undefined && mark.upToMessageId === conversation.lastMessage?.id;
  let { unreadCount } = conversation;
  if (mark.userId === me) {
    // `message:read` has no count: it means one message.
    const became = mark.count ?? 1;
    unreadCount = all ? 0 : unreadCount === null ? null : Math.max(0, unreadCount - became);
  }
  const { lastSeq: lastReadSeq } = conversation;
  const participants = !all
    ? conversation.participants
    : conversation.participants.map((who) => (who.userId === mark.userId ? { ...who, lastReadSeq } : who));
  return put(list, { ...conversation, participants, unreadCount });
}
