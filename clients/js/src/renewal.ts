import { endOf, type Tokens } from "./tokens.js";

const AHEAD_MS = 60_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Gives the connection a new token before the current one expires. */
export class Renewal {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #life = 0;

  constructor(
    private readonly tokens: Tokens,
    private readonly hand: (token: string) => Promise<unknown>,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** `aheadMs`: how far the server's clock is ahead of the local clock, which can be wrong by hours. */
  begin(token: string, aheadMs: number): void {
    this.end();
    const end = endOf(token);
    if (end === null) return;
    const left = end - (Date.now() + aheadMs);
    const delay = Math.max(left * 0.8, left - AHEAD_MS);
    if (delay > LONGEST_TIMER_MS) return;
    this.#timer = setTimeout(() => void this.#renew(token, aheadMs), delay);
  }

  end(): void {
    this.#life++;
    clearTimeout(this.#timer);
  }

  async #renew(token: string, aheadMs: number): Promise<void> {
    const life = this.#life;
    try {
      const fresh = await this.tokens.fresh();
      // The app returned the same token. When it expires we reconnect, and the app then has another.
      if (life !== this.#life || fresh === token) return;
      await this.hand(fresh);
      if (life === this.#life) this.begin(fresh, aheadMs);
    } catch (error) {
      // Nothing is lost: when the token expires the server closes the connection, and we reconnect with a new one.
      if (life === this.#life) this.onError(error);
    }
  }
}
