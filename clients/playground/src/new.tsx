import type { ConversationView } from "@chatserver/client";
import { useRef, useState } from "preact/hooks";
import type { Session } from "./session.js";

/** Starts a conversation with one person, or a group. */
export function NewConversation({ session, open }: { session: Session; open: (id: string) => void }) {
  const [chosen, choose] = useState<readonly string[]>([]);
  const around = useRef<HTMLDetailsElement>(null);
  const opener = useRef<HTMLElement>(null);
  const fold = (): void => {
    if (around.current) around.current.open = false;
  };
  const begin = async (): Promise<void> => {
    const [first] = chosen;
    if (first === undefined) return;
    const { id } = chosen.length === 1 ? await session.chat.direct(first) : await group(session, chosen);
    choose([]);
    fold();
    open(id);
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    session.attempt(begin);
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || !around.current?.open) return;
    fold();
    opener.current?.focus();
  };
  return (
    <details ref={around} class="new" onKeyDown={key}>
      <summary ref={opener}>
        New<span class="unseen"> conversation</span>
      </summary>
      <form onSubmit={submit}>
        <fieldset>
          <legend>With whom? Several people make a group.</legend>
          {session.place.people
            .filter((person) => person.id !== session.me.id)
            .map(({ id, name }) => (
              <label key={id}>
                <input
                  type="checkbox"
                  checked={chosen.includes(id)}
                  onChange={() => choose(chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id])}
                />
                {name}
              </label>
            ))}
        </fieldset>
        <button type="submit" class="primary" disabled={chosen.length === 0}>
          Start
        </button>
      </form>
    </details>
  );
}

function group(session: Session, participantIds: readonly string[]): Promise<ConversationView> {
  const names = [session.me.id, ...participantIds].map((id) => session.firstNameOf(id));
  const body = { type: "group", name: names.join(", ").slice(0, 80), participantIds };
  return session.chat.request<ConversationView>("POST", "/conversations", body);
}
