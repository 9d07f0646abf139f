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
  const shown = heartbeats ? all : all.filter((one) => !(HEARTBEAT.has(one.name) && one.raw.length === 1));
  useEffect(() => {
    if (follows) list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [shown.at(-1)?.key, follows]);
  return (
    <section class="packets" aria-label="Packets">
      <div class="bar">
        <h2>Packets</h2>
        <label>
          <input type="checkbox" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} />
          Follow
        </label>
        <label>
          <input type="checkbox" checked={heartbeats} onChange={(event) => setHeartbeats(event.currentTarget.checked)} />
          Heartbeats
        </label>
        <button type="button" onClick={() => packets.clear()}>
          Clear
        </button>
      </div>
      <ol ref={list} tabIndex={0} aria-label="Raw packets, the newest last">
        {shown.map((one) => (
          <Line key={one.key} packet={one} />
        ))}
      </ol>
    </section>
  );
}

function Line({ packet: { at, who, direction, name, raw } }: { packet: Packet }) {
  const up = direction === "up";
  return (
    <li class={direction}>
      <details>
        <summary>
          <time dateTime={at.toISOString()}>{at.toISOString().slice(11, 23)}</time>{" "}
          <span aria-hidden="true">{up ? "↑" : "↓"}</span>
          <span class="unseen">{up ? "from" : "to"}</span> {who} <b>{name}</b>
        </summary>
        <pre>{raw}</pre>
      </details>
    </li>
  );
}
