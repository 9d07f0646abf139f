import type { Connection } from "./connection.js";
import type { History } from "./history.js";
import type { Change } from "./timeline.js";

export interface Follower {
  /** A change was taken in. */
  changed(): void;
  /** Something is missing, and is being read. */
  behind(): void;
  /** Everything up to now is there; `going` says whether that still holds. */
  live(going: () => boolean): Promise<void>;
  /** Says whether to try again, a while later. */
  failed(error: unknown): boolean;
}

const LATER_MS = 20_000;

/** Keeps a history up to date: reads what is new or has changed, and holds what is told meanwhile. */
export class Following {
  /** What was told while it catches up; null while it is up to date. */
  #held: Change[] | null = [];
  #life = 0;

  constructor(
    private readonly history: History,
    private readonly connection: Pick<Connection, "pause">,
    private readonly follower: Follower,
  ) {}

  /** There is a connection, and something may have been missed before. */
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

  /** In the order of changes. False when messages before one of them are missing: they are read first. */
  #take(changes: readonly Change[]): boolean {
    const missing = changes.findIndex((change) => !this.history.timeline.apply(change));
    if (missing < 0) return true;
    this.#held = changes.slice(missing);
    void this.#catchUp();
    this.follower.behind();
    return false;
  }
}
