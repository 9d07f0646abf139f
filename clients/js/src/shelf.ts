import type { OutboxEntry, OutboxStorage } from "./outbox.js";

/** The entries in the app's storage. Other tabs may have theirs in the same one: those stay as they are. */
export class Shelf {
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
  new Set(entries.map((one) => one.clientMessageId));
