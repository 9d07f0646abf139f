import { useEffect, useState } from "preact/hooks";
import { useObserved } from "./observe.js";
import type { Session } from "./session.js";

/** Whether there is a connection, and the switch that cuts it. */
export function ConnectionBar({ session }: { session: Session }) {
  const { status, reason, retryAt } = useObserved(session.chat.state);
  const isCut = useObserved(session.wire.isCut);
  const left = useSecondsUntil(retryAt);
  return (
    <div class="bar">
      <span class={`status ${status}`} role="status">
        {status}
        {status !== "online" && reason ? ` (${reason.code})` : ""}
      </span>
      {/* Outside the status: nobody wants to hear it count. */}
      {left !== null && <span>again in {left} s</span>}
      {retryAt !== null && (
        <button type="button" onClick={() => session.chat.connect()}>
          Now
        </button>
      )}
      <button
        type="button"
        role="switch"
        class="cut"
        aria-checked={isCut}
        onClick={() => (isCut ? session.wire.mend() : session.wire.cut())}
      >
        Cut the line
      </button>
    </div>
  );
}

function useSecondsUntil(time: number | null): number | null {
  const [, draw] = useState({});
  useEffect(() => {
    if (time === null) return undefined;
    const timer = setInterval(() => draw({}), 500);
    return () => clearInterval(timer);
  }, [time]);
  return time === null ? null : Math.max(0, Math.ceil((time - Date.now()) / 1000));
}
