import { ChatError } from "./errors.js";

export const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));

/** Doubles with each failure. Random, so that clients that failed together do not retry together. */
export function backoff(failures: number, minMs = 500, maxMs = 10_000): number {
  const most = Math.min(maxMs, minMs * 2 ** failures);
  return most * (0.5 + Math.random() / 2);
}

export interface Insistence {
  /** Attempts that may end with INTERNAL: it can be a bug that this request triggers every time. */
  readonly tries?: number;
  /** May return early, when waiting has become pointless. */
  readonly pause?: (ms: number) => Promise<void>;
  /** True if waiting may fix the error. By default false for OFFLINE: the connection reports its return. */
  readonly mends?: (error: ChatError) => boolean;
}

const TRIES = 5;

/** Repeat a request until it succeeds, or fails with an error that waiting cannot fix. */
export async function insist<T>(ask: () => Promise<T>, how: Insistence = {}): Promise<T> {
  const { tries = TRIES, pause = sleep, mends = (error) => error.temporary } = how;
  for (let failures = 0; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ChatError) || !mends(error)) throw error;
      if (error.code === "INTERNAL" && failures + 1 >= tries) throw error;
      await pause(error.retryAfterMs ?? backoff(failures));
    }
  }
}
