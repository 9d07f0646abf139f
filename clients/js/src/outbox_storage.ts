import type { ErrorShape, Requests } from "./protocol.js";

export type NewMessage = Omit<Requests["message:send"], "conversationId" | "clientMessageId">;

/** A send that is not acknowledged yet. Plain JSON. */
export interface OutboxEntry {
  readonly clientMessageId: string;
  readonly conversationId: string;
  /** Who sends it; null until the first connection has said who that is. */
  readonly userId: string | null;
  readonly createdAt: string;
  readonly message: NewMessage;
  /** Why the server does not take it; null while it is tried. */
  readonly error: Pick<ErrorShape, "code" | "message" | "details"> | null;
}

/**
 * Where sends outlive the page. `save` gets all that are to be there, after a `load`, and is not called again
 * before it ends. Tabs may share one.
 */
export interface OutboxStorage {
  load(): Promise<readonly OutboxEntry[]> | readonly OutboxEntry[];
  save(entries: readonly OutboxEntry[]): Promise<void> | void;
}

/** The outbox's entries in the app's storage. Tabs may share a storage: the entries of others stay as they are. */
export class StoredOutbox {
  /** Nothing is written over what could not be read. */
  #readable = false;
  #ours: ReadonlySet<string> = new Set();
  #saving = false;
  #next: readonly OutboxEntry[] | null = null;

  constructor(
    private readonly storage: OutboxStorage,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** What was left behind. From now on it is ours. */
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

  /** Keep these instead of what was ours before. When more are told meanwhile, the last ones are kept. */
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
        // Of a storage that answers at once nobody else gets in between.
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
