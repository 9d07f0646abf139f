import { ChatError } from "./errors.js";

export const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));

/** Twice as long each time, and by chance: those who failed together do not come back together. */
export function backoff(failures: number, minMs = 500, maxMs = 10_000): number {
  const most = Math.min(maxMs, minMs * 2 ** failures);
  return most * (0.5 + Math.random() / 2);
}

/**
 * Ask until there is an answer, or a refusal that waiting does not mend (OFFLINE is one). `tries` bounds
 * how often INTERNAL is: it may be a bug that this very request runs into.
 */
export async function insist<T>(ask: () => Promise<T>, tries = Infinity): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ChatError) || !error.temporary) throw error;
      if (error.code === "INTERNAL" && failures + 1 >= tries) throw error;
      await sleep(error.retryAfterMs ?? backoff(failures));
    }
  }
}
