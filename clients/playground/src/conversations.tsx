import type { ConversationView, ListedConversation } from "@chatserver/client";
import { NewConversation } from "./new.js";
import type { Session } from "./session.js";

interface Props {
  readonly session: Session;
  readonly conversations: readonly ListedConversation[];
  readonly openId: string | null;
  readonly open: (id: string) => void;
}

export function ConversationList({ session, conversations, openId, open }: Props) {
  // Not in the client's order, by last message: buttons would move just before a click.
  const inPlace = [...conversations].sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
  return (
    <nav class="conversations" aria-label={`Conversations of ${session.me.name}`}>
      {inPlace.length > 0 && (
        <ul>
          {inPlace.map((conversation) => (
            <li key={conversation.id}>
              <button type="button" aria-current={conversation.id === openId} onClick={() => open(conversation.id)}>
                <span class="name">{titleOf(session, conversation)}</span>
                {!!conversation.unreadCount && (
                  <span class="unread">
                    <span class="unseen"> </span>
                    {conversation.unreadCount}
                    <span class="unseen"> unread</span>
                  </span>
                )}
              </button>
            </li>
          ))}
        </ul>
      )}
      <NewConversation session={session} open={open} />
    </nav>
  );
}

export function titleOf(session: Session, conversation: ConversationView): string {
  const others = conversation.participants.filter(({ userId }) => userId !== session.me.id);
  return conversation.name ?? (others.map(({ userId }) => session.nameOf(userId)).join(", ") || "Only you");
}
