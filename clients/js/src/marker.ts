import type { Connection } from "./connection.js";
import { isOffline } from "./errors.js";
import type { Message } from "./protocol.js";

/** Tells the server how far the user has read: once for many messages, and after a reconnection if necessary. */
export class Marker {
  #seen: Message | null = null;
  #toldSeq = 0;
  #telling = false;

  constructor(
    private readonly connection: Connection,
    private readonly conversationId: string,
    private readonly onError: (error: unknown) => void,
  ) {}

  get toldSeq(): number {
    return this.#toldSeq;
  }

  seen(message: Message): void {
    if (message.seq <= (this.#seen?.seq ?? this.#toldSeq)) return;
    this.#seen = message;
    this.goOn();
  }

  goOn(): void {
    if (!this.#telling && this.#seen) void this.#tell();
  }

  forget(): void {
    this.#seen = null;
    this.#toldSeq = 0;
  }

  async #tell(): Promise<void> {
    this.#telling = true;
    let message: Message | null;
    try {
      while ((message = this.#seen)) {
        const asked = { conversationId: this.conversationId, upToMessageId: message.id };
        await this.connection.insist("conversation:read", asked);
        this.#toldSeq = message.seq;
        if (this.#seen === message) this.#seen = null;
      }
    } catch (error) {
      // It is sent with the next connection.
      if (isOffline(error)) return;
      this.#seen = null;
      this.onError(error);
    } finally {
      this.#telling = false;
    }
  }
}
