import type { ListedMessage } from "@chatserver/client";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

const NEAR_END_PX = 60;

/**
 * Whoever is at the end stays there with what comes, and with what one says oneself; whoever reads further
 * up stays where they are, also when older messages are put before.
 */
export function useScroll(messages: readonly ListedMessage[], me: string) {
  const list = useRef<HTMLOListElement>(null);
  const before = useRef({ first: "", last: "", height: 0, view: 0 });
  useLayoutEffect(() => {
    const at = list.current;
    if (!at) return;
    const was = before.current;
    const [first, last] = [messages[0]?.key ?? "", messages.at(-1)];
    const says = last && last.key !== was.last && last.senderId === me && last.state === "pending";
    if (says || wasAtEnd(at, was)) at.scrollTop = at.scrollHeight;
    else if (first !== was.first) at.scrollTop += at.scrollHeight - was.height;
    before.current = { first, last: last?.key ?? "", height: at.scrollHeight, view: at.clientHeight };
  }, [messages]);
  useEffect(() => {
    const at = list.current;
    if (!at) return undefined;
    const look = (): void => {
      before.current = { ...before.current, height: at.scrollHeight, view: at.clientHeight };
    };
    // The draft above the field, or a phone's keyboard, make it lower.
    const size = new ResizeObserver(() => {
      if (wasAtEnd(at, before.current)) at.scrollTop = at.scrollHeight;
      look();
    });
    size.observe(at);
    // Also when what is in it gets lower, as when a menu is closed at the end.
    at.addEventListener("scroll", look);
    return () => {
      size.disconnect();
      at.removeEventListener("scroll", look);
    };
  }, []);
  return list;
}

/** Not left to the `scroll` event: that comes a frame after what it tells of. */
function wasAtEnd(at: HTMLElement, was: { readonly height: number; readonly view: number }): boolean {
  return was.height - at.scrollTop - was.view < NEAR_END_PX;
}
