import type { Conversation } from "@chatserver/client";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Draft } from "./draft.js";
import type { Session } from "./session.js";

interface Props {
  readonly session: Session;
  readonly conversation: Conversation;
  readonly draft: Draft;
  /** Counts the user's requests to open the conversation. Each one focuses the field. */
  readonly asked: number;
  readonly begin: (draft: Draft) => void;
  readonly done: () => void;
}

/** A touch screen: focusing the field would open a keyboard over half of the page. */
const COARSE = "(pointer: coarse)";

export function Composer({ session, conversation, draft, asked, begin, done }: Props) {
  const [text, setText] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (asked > 0 && !matchMedia(COARSE).matches) field.current?.focus();
  }, [asked]);
  useEffect(() => {
    if (!draft) return;
    if (draft.kind === "edit") setText(draft.message.content);
    field.current?.focus();
  }, [draft]);
  const finish = (): void => {
    setText("");
    conversation.stopTyping();
    done();
  };
  const submit = (): void => {
    const content = text.trim();
    if (content === "") return;
    if (draft?.kind === "edit") {
      // The text stays until the edit is stored: without a connection it fails.
      const { id } = draft.message;
      session.attempt(async () => {
        await conversation.edit(id, content);
        finish();
      });
      return;
    }
    const { sent } = conversation.send({ content, ...(draft && { replyTo: draft.message.id }) });
    sent.catch(() => undefined); // The list shows it as failed.
    finish();
  };
  const key = (event: KeyboardEvent): void => {
    // In an input method, Enter also confirms a character.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape") finish();
    else if (event.key === "ArrowUp" && text === "") {
      const last = conversation
        .snapshot()
        .messages.findLast((message) => message.senderId === session.me.id && message.state === "sent" && !message.isDeleted);
      if (!last) return;
      event.preventDefault();
      begin({ kind: "edit", message: last });
    }
  };
  const label = draft?.kind === "edit" ? "Edit the message" : draft ? "Reply" : "Message";
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {draft && (
        <p class="draft">
          <span>
            <b>{label}</b> {draft.message.content.slice(0, 80)}
          </span>
          <button type="button" onClick={finish}>Cancel</button>
        </p>
      )}
      <textarea
        ref={field}
        rows={1}
        aria-label={label}
        placeholder={`${label} (Enter sends)`}
        value={text}
        onKeyDown={key}
        onInput={(event) => {
          setText(event.currentTarget.value);
          if (event.currentTarget.value !== "") conversation.typing();
          else conversation.stopTyping();
        }}
      />
      <button type="submit" class="primary" disabled={text.trim() === ""}>
        {draft?.kind === "edit" ? "Save" : "Send"}
      </button>
    </form>
  );
}
