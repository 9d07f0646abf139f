import type { Connection } from "./connection.js";

/** The server stops an indicator 6 s after its last start (TYPING_TIMEOUT_S). */
const AGAIN_MS = 3_000;
const IDLE_MS = 4_000;

/** Tells the server that the user is typing or recording, at most every three seconds. Sends the stop by itself. */
export class Activity {
  #startedAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly connection: Connection,
    private readonly kind: "typing" | "recording",
    private readonly conversationId: string,
  ) {}

  /** Call it with every key. */
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

  /** The connection is lost, or the conversation closed: stop without telling the server. */
  forget(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
