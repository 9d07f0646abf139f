import type { ListedConversation } from "@chatserver/client";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ConnectionBar } from "./connection.js";
import { ConversationList } from "./conversations.js";
import { useObserved } from "./observe.js";
import type { Packets } from "./packets.js";
import type { Person, Place } from "./people.js";
import { Session } from "./session.js";
import { Thread } from "./thread.js";
import { Welcome } from "./welcome.js";

interface Props {
  readonly me: Person;
  /** The person in the other pane. */
  readonly other: Person;
  readonly place: Place;
  readonly packets: Packets;
}

/** One person's chat. */
export function Pane({ me, other, place, packets }: Props) {
  const session = useMemo(() => new Session(me, place, packets), []);
  const [open, setOpen] = useState<Opened | null>(null);
  const conversations = useObserved(session.chat.conversations);
  const problem = useObserved(session.problem);
  const choose = (id: string): void => setOpen((was) => ({ id, asked: (was?.asked ?? 0) + 1 }));
  useEffect(() => {
    session.chat.connect();
    return () => session.chat.close();
  }, [session]);
  useEffect(() => {
    const first = liveliest(conversations.filter(isWith(other))) ?? liveliest(conversations);
    // The user may have chosen another one since this render.
    if (first) setOpen((was) => was ?? { id: first.id, asked: 0 });
  }, [conversations, other]);
  const shown = conversations.find((conversation) => conversation.id === open?.id);
  return (
    <>
      <ConnectionBar session={session} />
      {problem !== null && (
        <p class="problem" role="alert">
          <span>{problem}</span>
          <button type="button" aria-label="Dismiss" onClick={() => session.problem.set(null)}>
            ×
          </button>
        </p>
      )}
      <ConversationList session={session} conversations={conversations} openId={shown?.id ?? null} open={choose} />
      {shown ? (
        <Thread key={shown.id} session={session} view={shown} asked={open?.asked ?? 0} />
      ) : (
        <Welcome session={session} other={other} isEmpty={conversations.length === 0} open={choose} />
      )}
    </>
  );
}

interface Opened {
  readonly id: string;
  /** The number of the user's choices. 0: the page opened it by default, without focusing the field. */
  readonly asked: number;
}

/** The conversation with the most messages: both panes choose the same one, whichever loads first. */
function liveliest(conversations: readonly ListedConversation[]): ListedConversation | undefined {
  const messages = ({ lastMessage }: ListedConversation): number => lastMessage?.seq ?? 0;
  return [...conversations].sort((a, b) => messages(b) - messages(a))[0];
}

const isWith =
  (other: Person) =>
  (conversation: ListedConversation): boolean =>
    conversation.participants.some(({ userId }) => userId === other.id);
