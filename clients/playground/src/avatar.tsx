import type { Session } from "./session.js";

const HUES = 8;

/** A person's initials in colour. Screen readers skip it, because the name is always beside it. */
export function Avatar({ session, id }: { session: Session; id: string }) {
  const letters = session.nameOf(id).split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? "");
  return (
    <span class="avatar" data-hue={hueOf(session, id)} aria-hidden="true">
      {letters.join("")}
    </span>
  );
}

function hueOf(session: Session, id: string): number {
  const at = session.place.people.findIndex((person) => person.id === id);
  if (at >= 0) return at % HUES;
  return [...id].reduce((sum, letter) => sum + (letter.codePointAt(0) ?? 0), 0) % HUES;
}
