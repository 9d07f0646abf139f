import { backoff } from "./retry.js";

const FIRST_MS = 200;
const LAST_MS = 60_000;
/** The wait grows by at most this much per participant, because all of them may ask the server. */
const EACH_MS = 5;

interface Wait {
  timer?: ReturnType<typeof setTimeout>;
  /** The conversation was scheduled again during the request. */
  again: boolean;
}

/**
 * Conversations whose state only the server knows. The events that cause this come in bursts, and to all
 * participants at the same time: a burst causes one request, and the more participants, the longer the time over
 * which their requests are spread. A conversation that never settles is requested more and more rarely.
 */
export class Revalidation {
  #waiting = new Map<string, Wait>();

  /** `ask` resolves with true if the answer is certain. `size` returns the number of participants. */
  constructor(
    private readonly ask: (conversationId: string) => Promise<boolean>,
    private readonly size: (conversationId: string) => number,
  ) {}

  schedule(conversationId: string): void {
    const wait = this.#waiting.get(conversationId);
    if (wait) wait.again = true;
    else this.#wait(conversationId, 0);
  }

  cancel(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
  }

  #wait(conversationId: string, failures: number): void {
    const wait: Wait = { again: false };
    this.#waiting.set(conversationId, wait);
    const first = FIRST_MS + EACH_MS * this.size(conversationId);
    const pause = backoff(failures, first, LAST_MS);
    wait.timer = setTimeout(() => void this.#revalidate(conversationId, wait, failures), pause);
  }

  async #revalidate(conversationId: string, wait: Wait, failures: number): Promise<void> {
    wait.again = false;
    const certain = await this.ask(conversationId);
    if (this.#waiting.get(conversationId) !== wait) return;
    this.#waiting.delete(conversationId);
    if (!certain) this.#wait(conversationId, failures + 1);
    else if (wait.again) this.#wait(conversationId, 0);
  }
}
