import type { Background } from "./background.js";
import { isOffline } from "./errors.js";
import type { ServerEvents } from "./protocol.js";
import { Store } from "./store.js";

export interface Presence {
  readonly status: "online" | "offline";
  /** The time when an offline user was last online. */
  readonly lastSeen: string | null;
}

const AT_ONCE = 200;

/** Presence of users from requests and events. Users who are not in the map are unknown. */
export class PresenceMap extends Store<ReadonlyMap<string, Presence>> {
  /** Watched by the app. Participants of an open conversation are requested with the conversation. */
  #watched = new Set<string>();
  #life = 0;

  constructor(
    private readonly background: Background | null,
    private readonly onError: (error: unknown) => void,
  ) {
    super(new Map());
  }

  /** Request the presence of these users: now if unknown, and after each connect. */
  async watch(userIds: readonly string[]): Promise<void> {
    for (const id of userIds) this.#watched.add(id);
    await this.look(userIds);
  }

  /** Request the presence of those who are unknown. */
  async look(userIds: readonly string[]): Promise<void> {
    const life = this.#life;
    try {
      const unknown = userIds.filter((id) => !this.snapshot().has(id));
      for (let at = 0; this.background && at < unknown.length; at += AT_ONCE) {
        const body = { userIds: unknown.slice(at, at + AT_ONCE) };
        const { items } = await this.background.ask<Items>("POST", "/presence/batch", body);
        if (life !== this.#life) return;
        this.#learn(items);
      }
    } catch (error) {
      // The next connection requests them again.
      if (life === this.#life && !isOffline(error)) this.onError(error);
    }
  }

  /** Without a connection no presence events arrive, so the known values are no longer valid. */
  disconnected(): void {
    this.#life++;
    if (this.snapshot().size > 0) this.set(new Map());
  }

  connected(): void {
    void this.look([...this.#watched]);
  }

  online({ userId }: ServerEvents["user:online"]): void {
    this.#tell(userId, { status: "online", lastSeen: null });
  }

  offline({ userId, lastSeen }: ServerEvents["user:offline"]): void {
    this.#tell(userId, { status: "offline", lastSeen });
  }

  #tell(userId: string, presence: Presence): void {
    this.set(new Map(this.snapshot()).set(userId, presence));
  }

  #learn(items: Items["items"]): void {
    const known = new Map(this.snapshot());
    for (const { userId, status, lastSeen } of items) {
      // An event since the request is newer than the answer.
      if (!known.has(userId)) known.set(userId, { status, lastSeen });
    }
    this.set(known);
  }
}

interface Items {
  readonly items: readonly (Presence & { readonly userId: string })[];
}
