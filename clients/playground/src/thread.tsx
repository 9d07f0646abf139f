import type { ListedConversation, ListedMessage } from "@chatserver/client";
import { useEffect, useState } from "preact/hooks";
import { Composer } from "./composer.js";
import { titleOf } from "./conversations.js";
import type { Draft } from "./draft.js";
import { Message } from "./message.js";
import { Names } from "./names.js";
import { useObserved } from "./observe.js";
import { useScroll } from "./scroll.js";
import type { Session } from "./session.js";

interface Props {
  readonly session: Session;
  readonly view: ListedConversation;
  readonly asked: number;
}

const RUN_MS = 5 * 60_000;

export function Thread({ session, view, asked }: Props) {
  const conversation = session.chat.conversation(view.id);
  const { status, messages, hasOlder, isLoadingOlder, typing } = useObserved(conversation);
  const [reads, setReads] = useState(true);
  const [draft, setDraft] = useState<Draft>(null);
  const list = useScroll(messages, session.me.id);
  useEffect(() => {
    conversation.open().catch(() => undefined); // `status` shows it.
    return () => conversation.close();
  }, [conversation]);
  useEffect(() => {
    if (reads && status === "live") conversation.markRead();
  }, [conversation, reads, status, messages]);
  return (
    <section class="thread" aria-label={`${titleOf(session, view)}, for ${session.me.name}`}>
      <header>
        <h2 title={titleOf(session, view)}>{titleOf(session, view)}</h2>
        <span class={`freshness ${status}`}>{status}</span>
        <label>
          <input type="checkbox" checked={reads} onChange={(event) => setReads(event.currentTarget.checked)} />
          Mark as read
        </label>
        <WhoIsHere session={session} view={view} />
      </header>
      <div class="log" role="log">
        <ol ref={list} class="messages" aria-label="Messages" tabIndex={0}>
          {hasOlder && (
            <li class="older">
              {/* Never disabled, or the button would lose the focus before the next page. */}
              <button
                type="button"
                aria-busy={isLoadingOlder}
                onClick={() => session.attempt(() => conversation.loadOlder())}
              >
                Older messages
              </button>
            </li>
          )}
          {status === "live" && messages.length === 0 && <li class="empty">No messages yet.</li>}
          {messages.map((message, at) => (
            <Message
              key={message.key}
              session={session}
              conversation={conversation}
              message={message}
              answered={messages.find((other) => other.id === message.replyTo)}
              goesOn={isRun(messages[at - 1], message)}
              begin={setDraft}
            />
          ))}
        </ol>
      </div>
      <p class="typing" role="status">
        {typing.length > 0 && `${typing.map((id) => session.firstNameOf(id)).join(", ")} ${typing.length > 1 ? "are" : "is"} typing…`}
      </p>
      <Composer
        session={session}
        conversation={conversation}
        draft={draft}
        asked={asked}
        done={() => setDraft(null)}
        begin={setDraft}
      />
    </section>
  );
}

function WhoIsHere({ session, view }: { session: Session; view: ListedConversation }) {
  const presence = useObserved(session.chat.presence);
  const others = view.participants.map(({ userId }) => userId).filter((id) => id !== session.me.id);
  // In a large conversation nothing else tells who comes and goes.
  useEffect(() => session.chat.watch(others), [session, others.join()]);
  return (
    <>
      <ul class="presence" aria-label="Participants">
        {others.map((id) => {
          const status = presence.get(id)?.status ?? "unknown";
          return (
            <li key={id} class={status} title={`${session.nameOf(id)}: ${status}`}>
              {session.firstNameOf(id)}
              <span class={others.length > 1 ? "unseen" : ""}> {status}</span>
            </li>
          );
        })}
      </ul>
      {view.participantCount > view.participants.length && (
        <Names
          session={session}
          label={`All ${view.participantCount.toLocaleString()} participants`}
          load={async (cursor) => {
            const { items, nextCursor } = await session.chat.participants(view.id, cursor === undefined ? {} : { cursor });
            return { userIds: items.map(({ userId }) => userId), nextCursor };
          }}
        />
      )}
    </>
  );
}

/** Consecutive messages of the same person, of which only the first shows the name. */
function isRun(before: ListedMessage | undefined, message: ListedMessage): boolean {
  return (
    before?.senderId === message.senderId && Date.parse(message.createdAt) - Date.parse(before.createdAt) < RUN_MS
  );
}
