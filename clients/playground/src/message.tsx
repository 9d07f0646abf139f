import type { Conversation, ListedMessage } from "@chatserver/client";
import { useState } from "preact/hooks";
import { Actions } from "./actions.js";
import { Avatar } from "./avatar.js";
import type { Draft } from "./draft.js";
import type { Session } from "./session.js";
import { Names } from "./names.js";
import { inWords } from "./words.js";

interface Props {
  readonly session: Session;
  readonly conversation: Conversation;
  readonly message: ListedMessage;
  /** The message that it replies to, if that is loaded. */
  readonly answered: ListedMessage | undefined;
  /** The previous message is by the same person. */
  readonly goesOn: boolean;
  readonly begin: (draft: Draft) => void;
}

const LONG = 1000;

export function Message({ session, conversation, message, answered, goesOn, begin }: Props) {
  const mine = message.senderId === session.me.id;
  const react = (emoji: string, has: boolean): void =>
    session.attempt(() => (has ? conversation.unreact(message.id, emoji) : conversation.react(message.id, emoji)));
  const is = { mine, goesOn, deleted: message.isDeleted, [message.state]: true };
  return (
    <li class={`message ${Object.entries(is).flatMap(([name, so]) => (so ? name : [])).join(" ")}`}>
      {!mine && <Avatar session={session} id={message.senderId} />}
      <div class="bubble">
        <p class={mine || goesOn ? "unseen" : "from"}>{session.nameOf(message.senderId)}</p>
        {message.replyTo !== null && (
          <blockquote>
            {answered ? `${session.firstNameOf(answered.senderId)}: ${text(answered)}` : "An earlier message"}
          </blockquote>
        )}
        <Text of={text(message)} />
        {message.error && message.clientMessageId !== null && (
          <Failed conversation={conversation} id={message.clientMessageId} why={inWords(message.error)} />
        )}
        <div class="foot">
          <Reactions {...{ session, message, react }} />
          <p class="about">
            {message.isEdited && !message.isDeleted && <span>edited</span>}
            <Time at={message.createdAt} />
            {mine && <Ticks {...{ session, conversation, message }} />}
          </p>
        </div>
        {message.state === "sent" && !message.isDeleted && (
          <Actions {...{ session, conversation, message, mine, begin, react }} />
        )}
      </div>
    </li>
  );
}

const text = (message: ListedMessage): string => (message.isDeleted ? "Deleted" : message.content);

/** A long text is cut, or it would push all others out of sight. */
function Text({ of }: { of: string }) {
  const [isWhole, showWhole] = useState(false);
  if (isWhole || of.length <= LONG) return <p class="content">{of}</p>;
  return (
    <>
      <p class="content">{of.slice(0, LONG / 2)}…</p>
      <button type="button" onClick={() => showWhole(true)}>
        Show all {of.length.toLocaleString()} characters
      </button>
    </>
  );
}

interface ReactionsProps extends Pick<Props, "session" | "message"> {
  readonly react: (emoji: string, has: boolean) => void;
}

function Reactions({ session, message, react }: ReactionsProps) {
  if (message.reactions.length === 0) return null;
  return (
    <div class="reactions">
      {message.reactions.map(({ emoji, count, userIds }) => {
        const has = userIds.includes(session.me.id);
        const others = count > userIds.length ? ` and ${(count - userIds.length).toLocaleString()} others` : "";
        const who = userIds.map((id) => session.nameOf(id)).join(", ") + others;
        return (
          <button
            key={emoji}
            type="button"
            aria-pressed={has}
            aria-label={`${emoji} ${count}: ${who}`}
            title={who}
            onClick={() => react(emoji, has)}
          >
            {emoji} {count}
          </button>
        );
      })}
      {message.reactions.some(({ count, userIds }) => count > userIds.length) && (
        <Names
          session={session}
          label="Who?"
          load={async (cursor) => {
            const { items, nextCursor } = await session.chat.reactions(message.id, cursor === undefined ? {} : { cursor });
            return { userIds: items.flatMap(({ userIds }) => userIds), nextCursor };
          }}
        />
      )}
    </div>
  );
}

function Time({ at }: { at: string }) {
  const time = new Date(at);
  return (
    <time dateTime={at} title={time.toLocaleString()}>
      {time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}
    </time>
  );
}

function Ticks({ session, conversation, message }: Pick<Props, "session" | "conversation" | "message">) {
  const readers = conversation.readersOf(message).map((id) => session.nameOf(id));
  if (message.state === "pending") return <span class="ticks">sending…</span>;
  if (message.state === "failed") return <span class="ticks">not sent</span>;
  if (readers.length === 0) return <span class="ticks" role="img" aria-label="Sent" title="Sent">✓</span>;
  const says = `Read by ${readers.join(", ")}`;
  return <span class="ticks read" role="img" aria-label={says} title={says}>✓✓</span>;
}

function Failed({ conversation, id, why }: { conversation: Conversation; id: string; why: string }) {
  return (
    <div class="failed" role="alert">
      <p>{why}</p>
      <button type="button" onClick={() => conversation.retry(id)}>Send again</button>{" "}
      <button type="button" onClick={() => conversation.discard(id)}>Discard</button>
    </div>
  );
}
