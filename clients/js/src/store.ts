/**
 * A value that changes and can be watched. Each snapshot is immutable, and the same object until something
 * changes: what React's useSyncExternalStore(one.subscribe, one.snapshot) asks for.
 */
export interface Observable<T> {
  readonly snapshot: () => T;
  /** Returns the function that ends the subscription. */
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
    // Wrapped, so that the same function subscribed twice is told twice and ended once.
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

/** Call the app's code. What it throws reaches the console, and not the state of the client. */
export function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}
