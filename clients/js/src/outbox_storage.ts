import type { ErrorShape, Requests } from "./protocol.js";

export type NewMessage = Omit<Requests["message:send"], "conversationId" | "clientMessageId">;

/** A send that is not acknowledged yet, as plain JSON. */
export interface OutboxEntry {
  readonly clientMessageId: string;
  readonly conversationId: string;
  /** The sender; null until the first connection tells the user's id. */
  readonly userId: string | null;
  readonly createdAt: string;
  readonly message: NewMessage;
  /** The reason why the server refused it; null while the client is still trying. */
  readonly error: Pick<ErrorShape, "code" | "message" | "details"> | null;
}

/**
 * Keeps unsent messages when the page closes. `save` gets the complete list, always after a `load`, and is not called
 * again before it finishes. Tabs may share a storage.
 */
export interface OutboxStorage {
  load(): Promise<readonly OutboxEntry[]> | readonly OutboxEntry[];
  save(entries: readonly OutboxEntry[]): Promise<void> | void;
}

/** The outbox's entries in the app's storage. It leaves the entries of other tabs alone. */
export class StoredOutbox {
  /** A storage that could not be read is not overwritten. */
  #readable = false;
  #ours: ReadonlySet<string> = new Set();
  #saving = false;
  #next: readonly OutboxEntry[] | null = null;

  constructor(
    private readonly storage: OutboxStorage,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Returns the stored entries, and takes them over. */
  async load(): Promise<readonly OutboxEntry[]> {
    try {
      const kept = [...(await this.storage.load())];
      this.#ours = idsOf(kept);
      this.#readable = true;
      return kept;
    } catch (error) {
      this.onError(error);
      return [];
    }
  }

  /** Replace our entries by these. If it is called again during a save, the last call wins. */
  async save(entries: readonly OutboxEntry[]): Promise<void> {
    this.#next = entries;
    if (!this.#readable || this.#saving) return;
    this.#saving = true;
    while (this.#next) {
      const next: readonly OutboxEntry[] = this.#next;
      this.#next = null;
      try {
        const ours = idsOf(next);
        const loaded = this.storage.load();
        // With a synchronous storage no other tab can save in between.
        const there = "then" in loaded ? await loaded : loaded;
        const others = there.filter(({ clientMessageId: id }) => !ours.has(id) && !this.#ours.has(id));
        await this.storage.save([...others, ...next]);
        this.#ours = ours;
      } catch (error) {
        this.onError(error);
      }
    }
    this.#saving = false;
  }
}

const idsOf = (entries: readonly OutboxEntry[]): ReadonlySet<string> =>
  new Set(entries.map((entry) => entry.clientMessageId));
