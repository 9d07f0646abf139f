import { useObserved } from "./observe.js";
import type { Person } from "./people.js";
import type { Session } from "./session.js";

interface Props {
  readonly session: Session;
  readonly other: Person;
  readonly isEmpty: boolean;
  readonly open: (id: string) => void;
}

/** Shown while no conversation is open. Without any conversations, it offers to start one. */
export function Welcome({ session, other, isEmpty, open }: Props) {
  const { status } = useObserved(session.chat.state);
  if (!isEmpty) return <p class="empty">Choose a conversation, or start one.</p>;
  // Before the first connection the list is unknown.
  if (status !== "online") return <p class="empty">Your conversations appear when you are connected.</p>;
  const [first] = other.name.split(" ");
  const begin = async (): Promise<void> => open((await session.chat.direct(other.id)).id);
  return (
    <div class="empty welcome">
      <h2>No conversations yet</h2>
      {other.id === session.me.id ? (
        <p>Sign in as another person in the other pane, and talk to them.</p>
      ) : (
        <button type="button" class="primary" onClick={() => session.attempt(begin)}>
          Talk to {first}
        </button>
      )}
      <p>
        Or let the demo’s people talk: run <code>chatserver demo</code>
      </p>
    </div>
  );
}
