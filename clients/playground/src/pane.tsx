import { useEffect, useMemo, useState } from "preact/hooks";
import { ConnectionBar } from "./connection.js";
import { ConversationList } from "./conversations.js";
import { useObserved } from "./observe.js";
import type { Packets } from "./packets.js";
import type { Person, Place } from "./people.js";
import { Session } from "./session.js";
import { Thread } from "./thread.js";

/** A chat as one person has it. */
export function Pane({ me, place, packets }: { me: Person; place: Place; packets: Packets }) {
  const session = useMemo(() => new Session(me, place, packets), []);
  const [openId, open] = useState<string | null>(null);
  const conversations = useObserved(session.chat.conversations);
  const problem = useObserved(session.problem);
  useEffect(() => {
    session.chat.connect();
    return () => session.chat.close();
  }, [session]);
  const shown = conversations.find((one) => one.id === openId);
  return (
    <>
      <ConnectionBar session={session} />
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}{" "}
          <button type="button" aria-label="Dismiss" onClick={() => session.problem.set(null)}>
            ×
          </button>
        </p>
      )}
      <ConversationList session={session} conversations={conversations} openId={openId} open={open} />
      {shown ? (
        <Thread key={shown.id} session={session} view={shown} />
      ) : (
        <p class="empty">Choose a conversation, or begin one.</p>
      )}
    </>
  );
}
