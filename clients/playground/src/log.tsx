import { useEffect, useRef, useState } from "preact/hooks";
import { useObserved } from "./observe.js";
import type { Packet, Packets } from "./packets.js";

const HEARTBEAT = new Set(["ping", "pong"]);

export function PacketLog({ packets }: { packets: Packets }) {
  const all = useObserved(packets);
  const [heartbeats, setHeartbeats] = useState(false);
  const [follows, setFollows] = useState(true);
  const list = useRef<HTMLOListElement>(null);
  // The event `ping` of the protocol has a payload; the heartbeat is a single character.
  const shown = heartbeats ? all : all.filter((packet) => !(HEARTBEAT.has(packet.name) && packet.raw.length === 1));
  useEffect(() => {
    if (follows) list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [shown.at(-1)?.key, follows]);
  return (
    <section class="packets" aria-label="Packets">
      <header>
        <h2>Packets</h2>
        <label>
          <input type="checkbox" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} />
          Follow
        </label>
        <label>
          <input type="checkbox" checked={heartbeats} onChange={(event) => setHeartbeats(event.currentTarget.checked)} />
          Pings
        </label>
        <button type="button" onClick={() => packets.clear()}>
          Clear
        </button>
      </header>
      <ol ref={list} tabIndex={0} aria-label="Raw packets, the newest last">
        {shown.length === 0 && <li class="empty">No packets yet.</li>}
        {shown.map((packet) => (
          // Opening a packet stops following, so that it does not move.
          <Line key={packet.key} packet={packet} opened={() => setFollows(false)} />
        ))}
      </ol>
    </section>
  );
}

function Line({ packet: { at, who, direction, name, raw }, opened }: { packet: Packet; opened: () => void }) {
  const up = direction === "up";
  const toggled = ({ currentTarget: line }: { currentTarget: HTMLDetailsElement }): void => {
    if (!line.open) return;
    line.scrollIntoView({ block: "nearest" });
    opened();
  };
  return (
    <li class={direction}>
      <details onToggle={toggled}>
        <summary>
          <time dateTime={at.toISOString()}>{clock(at)}</time>{" "}
          <span class="arrow" aria-hidden="true">{up ? "↑" : "↓"}</span>
          <span class="unseen">{up ? "from" : "to"}</span> <span class="whose">{who}</span> <b>{name}</b>
        </summary>
        <pre>{raw}</pre>
      </details>
    </li>
  );
}

/** Milliseconds included, which no locale's format has. */
function clock(at: Date): string {
  return `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}
