import { ChatError } from "./errors.js";

export const sleep = (ms: number): Promise<void> => new Promise((wake) => setTimeout(wake, ms));

/** Twice as long each time, and by chance: those who failed together do not come back together. */
export function backoff(failures: number, minMs = 500, maxMs = 10_000): number {
  const most = Math.min(maxMs, minMs * 2 ** failures);
  return most * (0.5 + Math.random() / 2);
}

export interface Insistence {
  /** How often INTERNAL may be the answer: it may be a bug that this very request runs into. */
  readonly tries?: number;
  /** May end early, when there is no more to wait for. */
  readonly pause?: (ms: number) => Promise<void>;
  /** Whether waiting may mend it. By default OFFLINE is no such thing: the connection says when it is back. */
  readonly mends?: (error: ChatError) => boolean;
}

const TRIES = 5;

/** Ask until there is an answer, or a refusal that waiting does not mend. */
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
