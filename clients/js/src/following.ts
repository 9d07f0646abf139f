import type { Connection } from "./connection.js";
import type { History } from "./history.js";
import type { Change } from "./timeline.js";

export interface Follower {
  /** The socket enters the room of the conversation; null if it is in it. */
  enter(): Promise<unknown> | null;
  /** A change was applied. */
  changed(): void;
  /** Messages are missing and are being read. */
  behind(): void;
  /** The history is up to date. `going` returns false once that is no longer true. */
  live(going: () => boolean): Promise<void>;
  /** Returns true to try again later. */
  failed(error: unknown): boolean;
}

const LATER_MS = 20_000;

/** Keeps a history up to date. While it catches up, it holds new events back. */
export class Following {
  /** Events held back during catch-up; null while up to date. */
  #held: Change[] | null = [];
  #life = 0;

  constructor(
    private readonly history: History,
    private readonly connection: Pick<Connection, "pause">,
    private readonly follower: Follower,
  ) {}

  /** There is a new connection, and events may have been missed before it. */
  begin(): void {
    this.#held = [];
    void this.#catchUp();
  }

  stop(): void {
    this.#life++;
    this.#held = [];
  }

  told(change: Change): void {
    if (this.#held) this.#held.push(change);
    else if (this.#take([change])) this.follower.changed();
  }

  async #catchUp(): Promise<void> {
    const life = ++this.#life;
    const going = (): boolean => life === this.#life;
    try {
      const entering = this.follower.enter();
      if (entering) await entering;
      if (!going()) return;
      await this.history.catchUp(going);
      if (!going()) return;
      const held = this.#held ?? [];
      this.#held = null;
      if (this.#take(held)) await this.follower.live(going);
    } catch (error) {
      if (!going() || !this.follower.failed(error)) return;
      await this.connection.pause(LATER_MS);
      if (going()) this.begin();
    }
  }

  /** Apply changes in order. Returns false if a message before one of them is missing; then catch-up reads it first. */
  #take(changes: readonly Change[]): boolean {
    const missing = changes.findIndex((change) => !this.history.timeline.apply(change));
    if (missing < 0) return true;
    this.#held = changes.slice(missing);
    void this.#catchUp();
    this.follower.behind();
    return false;
  }
}
