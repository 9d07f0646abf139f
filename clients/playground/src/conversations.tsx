import type { ConversationView, ListedConversation } from "@chatserver/client";
import { useRef, useState } from "preact/hooks";
import type { Session } from "./session.js";

interface Props {
  readonly session: Session;
  readonly conversations: readonly ListedConversation[];
  readonly openId: string | null;
  readonly open: (id: string) => void;
}

export function ConversationList({ session, conversations, openId, open }: Props) {
  return (
    <nav class="conversations" aria-label="Conversations">
      <ul>
        {conversations.map((one) => (
          <li key={one.id}>
            <button type="button" aria-current={one.id === openId} onClick={() => open(one.id)}>
              {titleOf(session, one)}
              {!!one.unreadCount && (
                <span class="unread">
                  {one.unreadCount}
                  <span class="unseen"> unread</span>
                </span>
              )}
            </button>
          </li>
        ))}
      </ul>
      <NewConversation session={session} open={open} />
    </nav>
  );
}

export function titleOf(session: Session, one: ConversationView): string {
  const others = one.participants.filter(({ userId }) => userId !== session.me.id);
  return one.name ?? (others.map(({ userId }) => session.nameOf(userId)).join(", ") || "Nobody else");
}

function NewConversation({ session, open }: Pick<Props, "session" | "open">) {
  const [chosen, choose] = useState<readonly string[]>([]);
  const around = useRef<HTMLDetailsElement>(null);
  const begin = async (): Promise<void> => {
    const [first] = chosen;
    if (first === undefined) return;
    const { id } = chosen.length === 1 ? await session.chat.direct(first) : await group(session, chosen);
    choose([]);
    if (around.current) around.current.open = false;
    open(id);
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    session.attempt(begin);
  };
  return (
    <details ref={around}>
      <summary>New conversation</summary>
      <form onSubmit={submit}>
        <fieldset>
          <legend>With whom? Several make a group.</legend>
          {session.place.people
            .filter((one) => one.id !== session.me.id)
            .map(({ id, name }) => (
              <label key={id}>
                <input
                  type="checkbox"
                  checked={chosen.includes(id)}
                  onChange={() => choose(chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id])}
                />
                {name}
              </label>
            ))}
        </fieldset>
        <button type="submit" disabled={chosen.length === 0}>
          Begin
        </button>
      </form>
    </details>
  );
}

function group(session: Session, participantIds: readonly string[]): Promise<ConversationView> {
  const names = [session.me.id, ...participantIds].map((id) => session.nameOf(id).split(" ")[0]);
  const body = { type: "group", name: names.join(", ").slice(0, 80), participantIds };
  return session.chat.request<ConversationView>("POST", "/conversations", body);
}
