import type { ListedConversation, ListedMessage } from "@chatserver/client";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Composer } from "./composer.js";
import { titleOf } from "./conversations.js";
import { Message } from "./message.js";
import { useObserved } from "./observe.js";
import type { Session } from "./session.js";

/** What the composer is about: something new, an answer, or a correction. */
export type Draft = { readonly kind: "reply" | "edit"; readonly message: ListedMessage } | null;

const NEAR_END_PX = 60;

export function Thread({ session, view }: { session: Session; view: ListedConversation }) {
  const conversation = session.chat.conversation(view.id);
  const { status, messages, hasOlder, isLoadingOlder, typing } = useObserved(conversation);
  const presence = useObserved(session.chat.presence);
  const [reads, setReads] = useState(true);
  const [draft, setDraft] = useState<Draft>(null);
  const list = useRef<HTMLOListElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    conversation.open().catch(() => undefined); // `status` says it.
    // Here, and not in the field: that would bring up the keyboard of a phone.
    list.current?.focus({ preventScroll: true });
    return () => conversation.close();
  }, [conversation]);
  useEffect(() => {
    if (reads && status === "live") conversation.markRead();
  }, [conversation, reads, status, messages]);
  useLayoutEffect(() => {
    if (atEnd.current) list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [messages, typing]);
  const scrolled = ({ currentTarget: at }: { currentTarget: HTMLOListElement }): void => {
    atEnd.current = at.scrollHeight - at.scrollTop - at.clientHeight < NEAR_END_PX;
  };
  const others = view.participants.map((one) => one.userId).filter((one) => one !== session.me.id);
  return (
    <section class="thread" aria-label={titleOf(session, view)}>
      <div class="bar">
        <h2>{titleOf(session, view)}</h2>
        <span class={`freshness ${status}`}>{status}</span>
        <label>
          <input type="checkbox" checked={reads} onChange={(event) => setReads(event.currentTarget.checked)} />
          Reads
        </label>
      </div>
      <ul class="presence" aria-label="Who is here">
        {others.map((id) => (
          <li key={id} class={presence.get(id)?.status ?? "unknown"}>
            {session.nameOf(id)}: {presence.get(id)?.status ?? "unknown"}
          </li>
        ))}
      </ul>
      <ol ref={list} class="messages" role="log" aria-label="Messages" tabIndex={0} onScroll={scrolled}>
        {hasOlder && (
          <li>
            <button type="button" disabled={isLoadingOlder} onClick={() => session.attempt(() => conversation.loadOlder())}>
              Older messages
            </button>
          </li>
        )}
        {messages.map((one) => (
          <Message
            key={one.key}
            session={session}
            conversation={conversation}
            message={one}
            answered={messages.find((other) => other.id === one.replyTo)}
            begin={setDraft}
          />
        ))}
      </ol>
      <p class="typing" role="status">
        {typing.length > 0 && `${typing.map((id) => session.nameOf(id)).join(", ")} typing…`}
      </p>
      <Composer session={session} conversation={conversation} draft={draft} done={() => setDraft(null)} begin={setDraft} />
    </section>
  );
}
