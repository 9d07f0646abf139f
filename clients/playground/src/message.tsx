import type { Conversation, ListedMessage } from "@chatserver/client";
import { useRef } from "preact/hooks";
import type { Session } from "./session.js";
import type { Draft } from "./thread.js";

const EMOJI = ["👍", "❤️", "😂", "🎉"];

interface Props {
  readonly session: Session;
  readonly conversation: Conversation;
  readonly message: ListedMessage;
  /** What it is a reply to, if that is here. */
  readonly answered: ListedMessage | undefined;
  readonly begin: (draft: Draft) => void;
}

export function Message({ session, conversation, message, answered, begin }: Props) {
  const mine = message.senderId === session.me.id;
  const from = session.nameOf(message.senderId);
  const react = (emoji: string, has: boolean): void =>
    session.attempt(() =>
      has ? conversation.unreact(message.id, emoji) : conversation.react(message.id, emoji),
    );
  return (
    <li class={`message ${mine ? "mine" : ""} ${message.state}`}>
      <p class="about">
        <b>{from}</b> <time dateTime={message.createdAt}>{new Date(message.createdAt).toLocaleTimeString()}</time>
        {message.isEdited && !message.isDeleted && " edited"} {mine && <Ticks {...{ session, conversation, message }} />}
      </p>
      {message.replyTo !== null && (
        <blockquote>{answered ? `${session.nameOf(answered.senderId)}: ${text(answered)}` : "An earlier message"}</blockquote>
      )}
      <p class="content">{text(message)}</p>
      {message.state === "failed" && message.clientMessageId !== null && (
        <Failed conversation={conversation} id={message.clientMessageId} why={message.error?.message} />
      )}
      <div class="reactions">
        {message.reactions.map(({ emoji, count, userIds }) => {
          const has = userIds.includes(session.me.id);
          const who = userIds.map((id) => session.nameOf(id)).join(", ");
          return (
            <button key={emoji} type="button" aria-pressed={has} aria-label={`${emoji} ${count}: ${who}`} title={who} onClick={() => react(emoji, has)}>
              {emoji} {count}
            </button>
          );
        })}
      </div>
      {message.state === "sent" && !message.isDeleted && (
        <Actions {...{ session, conversation, message, mine, begin, react }} />
      )}
    </li>
  );
}

const text = (message: ListedMessage): string => (message.isDeleted ? "Deleted" : message.content);

function Ticks({ session, conversation, message }: Pick<Props, "session" | "conversation" | "message">) {
  const readers = conversation.readersOf(message).map((id) => session.nameOf(id));
  if (message.state !== "sent") return <span class="ticks">{message.state}</span>;
  if (readers.length === 0) return <span class="ticks" role="img" aria-label="Sent" title="Sent">✓</span>;
  const says = `Read by ${readers.join(", ")}`;
  return <span class="ticks read" role="img" aria-label={says} title={says}>✓✓</span>;
}

function Failed({ conversation, id, why }: { conversation: Conversation; id: string; why: string | undefined }) {
  return (
    <p class="failed" role="alert">
      Not sent: {why}{" "}
      <button type="button" onClick={() => conversation.retry(id)}>Again</button>{" "}
      <button type="button" onClick={() => conversation.discard(id)}>Discard</button>
    </p>
  );
}

interface ActionsProps extends Pick<Props, "session" | "conversation" | "message" | "begin"> {
  readonly mine: boolean;
  readonly react: (emoji: string, has: boolean) => void;
}

function Actions({ session, conversation, message, mine, begin, react }: ActionsProps) {
  const around = useRef<HTMLDetailsElement>(null);
  const opener = useRef<HTMLElement>(null);
  const fold = (): void => {
    if (around.current) around.current.open = false;
  };
  /** `leaves`: the message or its menu goes with it, and the focus must be somewhere then. */
  const does = (work: () => void, leaves = false) => () => {
    fold();
    (leaves ? around.current?.closest("ol") : opener.current)?.focus();
    work();
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || !around.current?.open) return;
    fold();
    opener.current?.focus();
  };
  return (
    <details ref={around} class="actions" onKeyDown={key}>
      <summary ref={opener} aria-label={`Actions: ${message.content.slice(0, 40)}`}>⋯</summary>
      <div>
        {EMOJI.map((emoji) => {
          const has = message.reactions.some((one) => one.emoji === emoji && one.userIds.includes(session.me.id));
          return (
            <button key={emoji} type="button" aria-pressed={has} aria-label={`React with ${emoji}`} onClick={does(() => react(emoji, has))}>
              {emoji}
            </button>
          );
        })}
        <button type="button" onClick={does(() => begin({ kind: "reply", message }))}>Reply</button>
        {mine && <button type="button" onClick={does(() => begin({ kind: "edit", message }))}>Edit</button>}
        {mine && (
          <button type="button" onClick={does(() => session.attempt(() => conversation.delete(message.id)), true)}>Delete</button>
        )}
        <button type="button" onClick={does(() => session.attempt(() => conversation.delete(message.id, "self")), true)}>Hide</button>
      </div>
    </details>
  );
}
