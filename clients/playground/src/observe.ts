import type { Observable } from "@chatserver/client";
import { useEffect, useState } from "preact/hooks";

/** An observable value of the page, with the same interface as the client's. */
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

/** Returns the value, and renders the component again when it changes. */
export function useObserved<T>(observable: Observable<T>): T {
  const [, draw] = useState({});
  useEffect(() => {
    const again = (): void => draw({});
    again(); // The value may have changed since the first render.
    return observable.subscribe(again);
  }, [observable]);
  return observable.snapshot();
}
