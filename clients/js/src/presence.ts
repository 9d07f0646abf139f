import type { Api } from "./api.js";
import type { ServerEvents } from "./protocol.js";
import { insist } from "./retry.js";
import { Store } from "./store.js";

export interface Presence {
  readonly status: "online" | "offline";
  /** When an offline user was last there. */
  readonly lastSeen: string | null;
}

const AT_ONCE = 200;

/** Who is online, of those who were asked for or heard of. Who is not in the map is unknown. */
export class PresenceMap extends Store<ReadonlyMap<string, Presence>> {
  /** When each was last told of, counted in what was told. */
  #heard = new Map<string, number>();
  #count = 0;
  #asked = new Set<string>();

  constructor(
    private readonly api: Api | null,
    private readonly onError: (error: unknown) => void,
  ) {
    super(new Map());
  }

  /** Ask for those who are not known yet. */
  async watch(userIds: readonly string[]): Promise<void> {
    const wanted = userIds.filter((one) => !this.#asked.has(one));
    for (const one of wanted) this.#asked.add(one);
    if (this.api) await this.#ask(this.api, wanted);
  }

  /** Without a connection nobody tells who comes and goes: what was known is good no more. */
  disconnected(): void {
    this.set(new Map());
  }

  connected(): void {
    if (this.api) void this.#ask(this.api, [...this.#asked]);
  }

  online({ userId }: ServerEvents["user:online"]): void {
    this.#tell(userId, { status: "online", lastSeen: null });
  }

  offline({ userId, lastSeen }: ServerEvents["user:offline"]): void {
    this.#tell(userId, { status: "offline", lastSeen });
  }

  #tell(userId: string, presence: Presence): void {
    this.#heard.set(userId, ++this.#count);
    this.#asked.add(userId);
    this.set(new Map(this.snapshot()).set(userId, presence));
  }

  async #ask(api: Api, userIds: readonly string[]): Promise<void> {
    try {
      for (let at = 0; at < userIds.length; at += AT_ONCE) {
        const some = userIds.slice(at, at + AT_ONCE);
        const before = this.#count;
        const body = { userIds: some };
        const { items } = await insist(() => api.request<Items>("POST", "/presence/batch", body));
        const known = new Map(this.snapshot());
        for (const { userId, status, lastSeen } of items) {
          // What was told meanwhile is newer than the answer.
          if ((this.#heard.get(userId) ?? 0) <= before) known.set(userId, { status, lastSeen });
        }
        this.set(known);
      }
    } catch (error) {
      this.onError(error);
    }
  }
}

interface Items {
  readonly items: readonly (Presence & { readonly userId: string })[];
}
