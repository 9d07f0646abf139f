import { useObserved } from "./observe.js";
import type { Person } from "./people.js";
import type { Session } from "./session.js";

interface Props {
  readonly session: Session;
  readonly other: Person;
  readonly isEmpty: boolean;
  readonly open: (id: string) => void;
}

/** What is there as long as no conversation is: a way to the first message. */
export function Welcome({ session, other, isEmpty, open }: Props) {
  const { status } = useObserved(session.chat.state);
  if (!isEmpty) return <p class="empty">Choose a conversation, or begin one.</p>;
  // Until then it is not known whether there is one.
  if (status !== "online") return <p class="empty">The conversations come with the connection.</p>;
  const [first] = other.name.split(" ");
  const begin = async (): Promise<void> => open((await session.chat.direct(other.id)).id);
  return (
    <div class="empty welcome">
      <h2>Nobody has said anything yet</h2>
      {other.id === session.me.id ? (
        <p>Sign in as somebody else in the other pane, and talk to them.</p>
      ) : (
        <button type="button" class="primary" onClick={() => session.attempt(begin)}>
          Talk to {first}
        </button>
      )}
      <p>
        Or let the demo’s people talk. In a terminal: <code>chatserver demo</code>
      </p>
    </div>
  );
}
