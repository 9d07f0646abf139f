import { useState } from "preact/hooks";
import type { Session } from "./session.js";

interface Names {
  readonly userIds: readonly string[];
  readonly nextCursor: string | null;
}

interface Props {
  readonly session: Session;
  readonly label: string;
  readonly load: (cursor?: string) => Promise<Names>;
}

/** A button that lists people, and as long as there are more of them, more with each click. */
export function Names({ session, label, load }: Props) {
  const [known, show] = useState<Names | null>(null);
  const [loading, setLoading] = useState(false);
  const more = (): void => {
    setLoading(true);
    session.attempt(async () => {
      try {
        const { userIds, nextCursor } = await load(known?.nextCursor ?? undefined);
        show({ userIds: [...(known?.userIds ?? []), ...userIds], nextCursor });
      } finally {
        setLoading(false);
      }
    });
  };
  return (
    <div class="names">
      {known && <p>{known.userIds.map((id) => session.nameOf(id)).join(", ") || "Nobody"}</p>}
      {known?.nextCursor !== null && (
        <button type="button" onClick={more} disabled={loading}>
          {known ? "Show more" : label}
        </button>
      )}
    </div>
  );
}
