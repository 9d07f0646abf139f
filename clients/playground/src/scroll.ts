import type { ListedMessage } from "@chatserver/client";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

const NEAR_END_PX = 60;

/**
 * Keeps the list at its end when messages arrive, and moves it there when the user sends one. If the user reads
 * further up, the list does not move, even when older messages are inserted above.
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
    // A draft above the field, or a phone's keyboard, makes the list less high.
    const size = new ResizeObserver(() => {
      if (wasAtEnd(at, before.current)) at.scrollTop = at.scrollHeight;
      look();
    });
    size.observe(at);
    // Also fires when the contents shrink, for instance when the last message's menu closes.
    at.addEventListener("scroll", look);
    return () => {
      size.disconnect();
      at.removeEventListener("scroll", look);
    };
  }, []);
  return list;
}

/** Computed here, because the `scroll` event arrives a frame late. */
function wasAtEnd(at: HTMLElement, was: { readonly height: number; readonly view: number }): boolean {
  return was.height - at.scrollTop - was.view < NEAR_END_PX;
}
