import { backoff } from "./retry.js";

const FIRST_MS = 200;
const LAST_MS = 60_000;
/** So much later at most for each who may ask as well. */
const EACH_MS = 5;

interface Doubt {
  timer?: ReturnType<typeof setTimeout>;
  again: boolean;
}

/**
 * Conversations of which only the server knows how they are. What leaves a doubt comes in bursts, and to everybody
 * in a conversation at once: one asks once for a burst, and the more they are, the longer the time over which they
 * ask. Of one that never comes to rest it is asked more and more rarely.
 */
export class Doubts {
  #waiting = new Map<string, Doubt>();

  /** `ask` says whether the doubt is settled; `crowd`, how many there are in a conversation. */
  constructor(
    private readonly ask: (conversationId: string) => Promise<boolean>,
    private readonly crowd: (conversationId: string) => number,
  ) {}

  add(conversationId: string): void {
    const one = this.#waiting.get(conversationId);
    if (one) one.again = true;
    else this.#wait(conversationId, 0);
  }

  forget(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
  }

  #wait(conversationId: string, failures: number): void {
    const one: Doubt = { again: false };
    this.#waiting.set(conversationId, one);
    const first = FIRST_MS + EACH_MS * this.crowd(conversationId);
    one.timer = setTimeout(() => void this.#settle(conversationId, one, failures), backoff(failures, first, LAST_MS));
  }

  async #settle(conversationId: string, one: Doubt, failures: number): Promise<void> {
    one.again = false;
    const settled = await this.ask(conversationId);
    if (this.#waiting.get(conversationId) !== one) return;
    this.#waiting.delete(conversationId);
    if (!settled) this.#wait(conversationId, failures + 1);
    else if (one.again) this.#wait(conversationId, 0);
  }
}
