import type { Connection } from "./connection.js";

/** The server takes a start to hold for 6 s. */
const AGAIN_MS = 3_000;
const IDLE_MS = 4_000;

/** Says that the user types or records: at most every three seconds, and by itself when it ends. */
export class Activity {
  #startedAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly kind: "typing" | "recording",
    private readonly conversationId: string,
  ) {}

  /** It goes on: call it with every key. */
  goesOn(): void {
    const now = Date.now();
    if (!this.#timer || now - this.#startedAt >= AGAIN_MS) {
      this.#startedAt = now;
      this.connection.tell(`${this.kind}:start`, { conversationId: this.conversationId });
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ends(), IDLE_MS);
  }

  ends(): void {
    if (!this.#timer) return;
    this.forget();
    this.connection.tell(`${this.kind}:stop`, { conversationId: this.conversationId });
  }

  /** The connection that knew of it has gone, or the conversation. */
  forget(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
