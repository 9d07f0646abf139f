import type { Conversation, ListedMessage } from "@chatserver/client";
import { useRef } from "preact/hooks";
import type { Draft } from "./draft.js";
import { Names } from "./names.js";
import type { Session } from "./session.js";

const EMOJI = ["👍", "❤️", "😂", "🎉"];
/** All forms of an emoji are one reaction, whatever its presentation selectors. */
const plain = (emoji: string): string => emoji.replace(/[\uFE0E\uFE0F]/g, "");

interface Props {
  readonly session: Session;
  readonly conversation: Conversation;
  readonly message: ListedMessage;
  readonly mine: boolean;
  readonly begin: (draft: Draft) => void;
  readonly react: (emoji: string, has: boolean) => void;
}

/** The menu of a stored message. */
export function Actions({ session, conversation, message, mine, begin, react }: Props) {
  const around = useRef<HTMLDetailsElement>(null);
  const opener = useRef<HTMLElement>(null);
  const fold = (): void => {
    opener.current?.focus();
    if (around.current) around.current.open = false;
  };
  const does = (work: () => void) => () => {
    fold();
    work();
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && around.current?.open) fold();
  };
  const opened = (): void => {
    // There is no room below the last message: its menu would open out of sight.
    if (around.current?.open) around.current.scrollIntoView({ block: "nearest" });
  };
  return (
    <details ref={around} class="actions" onKeyDown={key} onToggle={opened}>
      <summary ref={opener} aria-label={`Actions: ${message.content.slice(0, 40)}`}>⋯</summary>
      <div>
        {EMOJI.map((emoji) => {
          const has = message.reactions.some((reaction) => plain(reaction.emoji) === plain(emoji) && reaction.userIds.includes(session.me.id));
          return (
            <button
              key={emoji}
              type="button"
              aria-pressed={has}
              aria-label={`React with ${emoji}`}
              onClick={does(() => react(emoji, has))}
            >
              {emoji}
            </button>
          );
        })}
        <button type="button" onClick={does(() => begin({ kind: "reply", message }))}>Reply</button>
        {mine && <button type="button" onClick={does(() => begin({ kind: "edit", message }))}>Edit</button>}
        {mine && (
          <button type="button" onClick={does(() => session.attempt(() => conversation.delete(message.id)))}>
            Delete for everyone
          </button>
        )}
        <button type="button" onClick={does(() => session.attempt(() => conversation.delete(message.id, "self")))}>
          Delete for me
        </button>
        {mine && (
          <Names
            session={session}
            label="Who has read it?"
            load={async (cursor) => {
              const { items, nextCursor } = await session.chat.readers(message.id, cursor === undefined ? {} : { cursor });
              return { userIds: items.map(({ userId }) => userId), nextCursor };
            }}
          />
        )}
      </div>
    </details>
  );
}
