/**
 * A value that changes and can be observed. Each snapshot is immutable, and is the same object until something
 * changes, as React requires for useSyncExternalStore(store.subscribe, store.snapshot).
 */
export interface Observable<T> {
  readonly snapshot: () => T;
  /** Returns a function that unsubscribes. */
  readonly subscribe: (listener: () => void) => () => void;
}

export class Store<T> implements Observable<T> {
  #listeners = new Set<() => void>();
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  readonly snapshot = (): T => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    // Wrapped, so that a function that is subscribed twice is called twice and unsubscribed separately.
    const added = () => listener();
    this.#listeners.add(added);
    return () => void this.#listeners.delete(added);
  };

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) guarded(listener);
  }
}

/** Call the app's code. Its exceptions go to the console and do not disturb the client. */
export function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}
