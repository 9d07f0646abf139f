import type { ConnectionState } from "@chatserver/client";
import { useEffect, useState } from "preact/hooks";
import { useObserved } from "./observe.js";
import type { Session } from "./session.js";

/** The state of the connection, and the switch that cuts it. */
export function ConnectionBar({ session }: { session: Session }) {
  const state = useObserved(session.chat.state);
  const isCut = useObserved(session.wire.isCut);
  const left = useSecondsUntil(isCut ? null : state.retryAt);
  return (
    <div class="line">
      <span class={`status ${isCut ? "cut" : state.status}`} role="status">
        {isCut ? "line cut" : said(state)}
      </span>
      {left !== null && (
        <>
          {/* Outside the status, or a screen reader would read every second. */}
          <span class="again">in {left} s</span>
          <button type="button" onClick={() => session.chat.connect()}>
            Now
          </button>
        </>
      )}
      <button
        type="button"
        role="switch"
        aria-checked={isCut}
        onClick={() => (isCut ? session.mend() : session.wire.cut())}
      >
        Cut<span class="long"> the line</span>
      </button>
    </div>
  );
}

/** Shows the server's reason for a refusal. The reason for a broken line is always the same. */
function said({ status, reason }: ConnectionState): string {
  return status === "refused" && reason ? `refused: ${reason.code}` : status;
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
