import type { Connection } from "./connection.js";
import { ChatError } from "./errors.js";
import { StoredOutbox, type NewMessage, type OutboxEntry, type OutboxStorage } from "./outbox_storage.js";
import type { ErrorShape, Message } from "./protocol.js";
import { insist } from "./retry.js";

export interface OutboxListener {
  /** The entries of a conversation have changed. */
  changed(conversationId: string): void;
  acknowledged(message: Message): void;
  error(error: unknown): void;
}

/**
 * Keeps each send until it is acknowledged or refused for good. One send per conversation is in flight at a time:
 * otherwise the next send could overtake one that the rate limit refuses.
 */
export class Outbox {
  #entries: readonly OutboxEntry[] = [];
  #waiting = new Map<string, { resolve(message: Message): void; reject(error: ChatError): void }>();
  #sending = new Set<string>();
  #userId: string | null = null;
  #stored: StoredOutbox | null;
  #loaded: Promise<void>;

  constructor(
    private readonly connection: Connection,
    private readonly listener: OutboxListener,
    storage: OutboxStorage | null,
  ) {
    this.#stored = storage && new StoredOutbox(storage, listener.error);
    this.#loaded = this.#load();
  }

  of(conversationId: string): readonly OutboxEntry[] {
    return this.#entries.filter((entry) => entry.conversationId === conversationId && this.#mine(entry));
  }

  /** Connected as this user: send the waiting messages. Those of another user stay in the storage. */
  async flush(userId: string): Promise<void> {
    this.#userId = userId;
    await this.#loaded;
    this.#set(this.#entries.map((entry) => (entry.userId === null ? { ...entry, userId } : entry)));
    for (const id of new Set(this.#entries.map((entry) => entry.conversationId))) {
      this.listener.changed(id);
      void this.#send(id);
    }
  }

  /** Resolves with the message when it is acknowledged; rejects when it is refused or discarded. */
  add(conversationId: string, message: NewMessage): { clientMessageId: string; sent: Promise<Message> } {
    const clientMessageId = newId();
    const createdAt = new Date().toISOString();
    const entry = { clientMessageId, conversationId, userId: this.#userId, createdAt, message, error: null };
    const sent = new Promise<Message>((resolve, reject) => {
      this.#waiting.set(clientMessageId, { resolve, reject });
    });
    // An app may ignore the promise: the list shows the refusal.
    sent.catch(() => undefined);
    this.#set([...this.#entries, entry], conversationId);
    void this.#send(conversationId);
    return { clientMessageId, sent };
  }

  /** Send a refused message again, after those that wait now. */
  retry(clientMessageId: string): void {
    const entry = this.#entries.find((entry) => entry.clientMessageId === clientMessageId && entry.error);
    if (!entry) return;
    const others = this.#entries.filter((other) => other !== entry);
    this.#set([...others, { ...entry, error: null }], entry.conversationId);
    void this.#send(entry.conversationId);
  }

  /** Forget a message. If it is in flight, it may still arrive. */
  discard(clientMessageId: string): void {
    this.#remove(clientMessageId);
    this.#settle(clientMessageId)?.reject(discarded());
  }

  #mine(entry: OutboxEntry): boolean {
    return entry.userId === null || this.#userId === null || entry.userId === this.#userId;
  }

  async #send(conversationId: string): Promise<void> {
    await this.#loaded;
    if (this.#sending.has(conversationId)) return;
    this.#sending.add(conversationId);
    try {
      let entry: OutboxEntry | undefined;
      while (this.connection.online && (entry = this.of(conversationId).find((waiting) => !waiting.error))) {
        await this.#sendOne(entry);
      }
    } finally {
      this.#sending.delete(conversationId);
    }
  }

  async #sendOne({ clientMessageId, conversationId, message }: OutboxEntry): Promise<void> {
    try {
      const asked = { ...message, conversationId, clientMessageId };
      const ask = (): Promise<Message> => {
        // The user may have discarded it between two attempts.
        if (!this.#entries.some((entry) => entry.clientMessageId === clientMessageId)) throw discarded();
        return this.connection.call("message:send", asked);
      };
      const stored = await insist(ask, { pause: (ms) => this.connection.pause(ms) });
      this.listener.acknowledged(stored);
      this.#remove(clientMessageId);
      this.#settle(clientMessageId)?.resolve(stored);
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      if (error.code === "OFFLINE") return; // It stays, and the next connection sends it first.
      this.#refused(clientMessageId, error);
    }
  }

  #refused(clientMessageId: string, error: ChatError): void {
    const entry = this.#entries.find((entry) => entry.clientMessageId === clientMessageId);
    if (!entry) return;
    const { message, details } = error;
    const failed = { ...entry, error: { code: error.code as ErrorShape["code"], message, details } };
    this.#set(this.#entries.map((other) => (other === entry ? failed : other)), entry.conversationId);
    this.#settle(clientMessageId)?.reject(error);
  }

  #settle(clientMessageId: string) {
    const waiting = this.#waiting.get(clientMessageId);
    this.#waiting.delete(clientMessageId);
    return waiting;
  }

  #remove(clientMessageId: string): void {
    const entry = this.#entries.find((entry) => entry.clientMessageId === clientMessageId);
    if (entry) this.#set(this.#entries.filter((other) => other !== entry), entry.conversationId);
  }

  #set(entries: readonly OutboxEntry[], conversationId?: string): void {
    this.#entries = entries;
    void this.#loaded.then(() => this.#stored?.save(this.#entries));
    if (conversationId !== undefined) this.listener.changed(conversationId);
  }

  async #load(): Promise<void> {
    const kept = (await this.#stored?.load()) ?? [];
    this.#entries = [...kept, ...this.#entries];
    for (const id of new Set(kept.map((entry) => entry.conversationId))) this.listener.changed(id);
  }
}

const discarded = (): ChatError => new ChatError("CONFLICT", "The message was discarded.");

/** Uses getRandomValues, because pages without TLS have no randomUUID. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
