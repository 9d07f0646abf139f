import { useEffect, useMemo, useState } from "preact/hooks";
import { PacketLog } from "./log.js";
import { Packets } from "./packets.js";
import { Pane } from "./pane.js";
import type { Person, Place } from "./people.js";

const SIDES = ["left", "right"] as const;
type Shown = (typeof SIDES)[number] | "packets";

/** Two people side by side, and their packets. A narrow screen shows one of the three. */
export function Page({ place }: { place: Place }) {
  const packets = useMemo(() => new Packets(), []);
  const [chosen, choose] = useState(() => fromAddress(place));
  const [shown, show] = useState<Shown>("left");
  const sign = (at: number, id: string): void => {
    const person = place.people.find((known) => known.id === id);
    const next = chosen.map((before, index) => (index === at ? (person ?? before) : before));
    // Stored in the address, so that another tab can have other people.
    history.replaceState(null, "", `#${next.map((person) => encodeURIComponent(person.id)).join("+")}`);
    choose(next);
  };
  useEffect(() => {
    document.title = `${chosen.map((person) => person.name).join(", ")}: Playground`;
  }, [chosen]);
  const labels: Record<Shown, string> = {
    left: chosen[0]?.name ?? "",
    right: chosen[1]?.name ?? "",
    packets: "Packets",
  };
  return (
    <>
      <header class="top">
        <h1>Playground</h1>
        <nav aria-label="Documentation">
          <a href="/docs">REST</a> <a href="/docs/events">Events</a>
        </nav>
        <div class="shown" role="group" aria-label="View">
          {([...SIDES, "packets"] as const).map((side) => (
            <button key={side} type="button" aria-pressed={shown === side} onClick={() => show(side)}>
              {labels[side]}
            </button>
          ))}
        </div>
      </header>
      <main data-shown={shown}>
        {SIDES.map((side, at) => {
          const [me, other] = [chosen[at], chosen[1 - at]];
          if (!me || !other) return null;
          return (
            <section key={side} class={`pane ${side}`} aria-label={`${side === "left" ? "Left" : "Right"}: ${me.name}`}>
              {/* Not in the pane: another person gets another pane, and the selection would lose the focus. */}
              <select
                class="who"
                aria-label="Signed in as"
                value={me.id}
                onChange={(event) => sign(at, event.currentTarget.value)}
              >
                {place.people.map((person) => (
                  <option key={person.id} value={person.id}>
                    {person.name}
                  </option>
                ))}
              </select>
              <Pane key={me.id} me={me} other={other} place={place} packets={packets} />
            </section>
          );
        })}
        <PacketLog packets={packets} />
      </main>
    </>
  );
}

function fromAddress({ people }: Place): readonly Person[] {
  const ids = location.hash.slice(1).split("+").map(decodeURIComponent);
  return SIDES.flatMap((_, at) => people.find((person) => person.id === ids[at]) ?? people[at] ?? []);
}
