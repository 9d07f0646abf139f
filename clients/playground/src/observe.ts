import type { Observable } from "@chatserver/client";
import { useEffect, useState } from "preact/hooks";

/** A value of the page, of the shape that the client's own have. */
export class Value<T> implements Observable<T> {
  #listeners = new Set<() => void>();
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  readonly snapshot = (): T => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  set(value: T): void {
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** The value, and to be drawn again with each change of it. */
export function useObserved<T>(observable: Observable<T>): T {
  const [, draw] = useState({});
  useEffect(() => {
    const again = (): void => draw({});
    again(); // It may have changed since it was drawn.
    return observable.subscribe(again);
  }, [observable]);
  return observable.snapshot();
}
