import type { Connection } from "./connection.js";
import { isOffline } from "./errors.js";
import type { Page } from "./pages.js";
import type { Answers, ServerEvents } from "./protocol.js";
import { Store } from "./store.js";

export interface Presence {
  readonly status: "online" | "offline";
  /** The time when an offline user was last online. */
  readonly lastSeen: string | null;
}

/** A page of the participants of a conversation, online users first. */
export interface PresencePage extends Page<Presence & { readonly userId: string }> {
  /** All participants who are online. */
  readonly onlineCount: number;
}

/** Limits of the server: users in one request, and users whom a socket watches. */
const AT_ONCE = 200;
const MOST = 1000;

/** Presence of the users whom the app shows, and of those in events. Users who are not in the map are unknown. */
export class PresenceMap extends Store<ReadonlyMap<string, Presence>> {
  /** By user, how many watch. In the order of asking: beyond MOST the later ones wait. */
  #watched = new Map<string, number>();
  #subscribed = new Set<string>();
  /** Users of events since the last request: an event is newer than the answer. */
  #told = new Set<string>();
  #life = 0;
  #running = false;
  #changed = false;

  constructor(
    private readonly connection: Pick<Connection, "online" | "insist">,
    private readonly onError: (error: unknown) => void,
  ) {
    super(new Map());
  }

  /** Keep the presence of these users right, through every reconnection, until the returned function is called. */
  watch(userIds: Iterable<string>): () => void {
    const ids = [...new Set(userIds)];
    for (const id of ids) this.#watched.set(id, (this.#watched.get(id) ?? 0) + 1);
    this.#update();
    return () => {
      for (const id of ids.splice(0)) {
        const others = this.#watched.get(id)! - 1;
        if (others > 0) this.#watched.set(id, others);
        else this.#watched.delete(id);
      }
      this.#update();
    };
  }

  connected(): void {
    this.#update();
  }

  /** Without a connection no presence events arrive, so the known values are no longer valid. */
  disconnected(): void {
    this.#life++;
    this.#subscribed.clear();
    if (this.snapshot().size > 0) this.set(new Map());
  }

  event(name: string, payload: unknown): void {
    switch (name) {
      case "user:online":
        return this.#tell((payload as ServerEvents["user:online"]).userId, { status: "online", lastSeen: null });
      case "user:offline": {
        const { userId, lastSeen } = payload as ServerEvents["user:offline"];
        return this.#tell(userId, { status: "offline", lastSeen });
      }
      // The server shows the presence of a user, and keeps a subscription, while a conversation is shared.
      case "participant:added":
      case "participant:removed":
        return this.#again([(payload as ServerEvents["participant:added"]).userId]);
      case "conversation:new":
      case "conversation:joined": {
        const { participants } = payload as ServerEvents["conversation:new"];
        return this.#again(participants.map(({ userId }) => userId));
      }
      case "conversation:removed":
        return this.#again([...this.#subscribed]);
    }
  }

  #tell(userId: string, presence: Presence): void {
    this.#told.add(userId);
    this.set(new Map(this.snapshot()).set(userId, presence));
  }

  #again(userIds: readonly string[]): void {
    for (const id of userIds) if (this.#watched.has(id)) this.#subscribed.delete(id);
    this.#update();
  }

  #update(): void {
    this.#changed = true;
    if (this.#running) return;
    this.#running = true;
    // After the current turn: a page that is left for another one changes little.
    queueMicrotask(() => void this.#run());
  }

  /** One request after the other, until the subscriptions are those that the app wants. */
  async #run(): Promise<void> {
    const life = this.#life;
    const going = (): boolean => this.connection.online && life === this.#life;
    try {
      while (going()) {
        this.#changed = false;
        if (!(await this.#step(going)) && !this.#changed) break;
      }
    } catch (error) {
      // The next connection subscribes again.
      if (life === this.#life && !isOffline(error)) this.onError(error);
    } finally {
      this.#running = false;
      if (life !== this.#life && this.connection.online) this.#update();
    }
  }

  /** Returns false if there is nothing to do. `going`: false when the connection was lost. */
  async #step(going: () => boolean): Promise<boolean> {
    const left = [...this.#subscribed].filter((id) => !this.#watched.has(id));
    if (left.length > 0) {
      for (const id of left) this.#subscribed.delete(id);
      this.#learn((known) => left.forEach((id) => known.delete(id)));
      await this.connection.insist("presence:unsubscribe", { userIds: left });
      return true;
    }
    const wanted = [...this.#watched.keys()].slice(0, MOST).filter((id) => !this.#subscribed.has(id));
    const userIds = wanted.slice(0, Math.min(AT_ONCE, MOST - this.#subscribed.size));
    if (userIds.length === 0) return false;
    for (const id of userIds) this.#subscribed.add(id);
    this.#told.clear();
    const { items }: Answers["presence:subscribe"] = await this.connection.insist("presence:subscribe", { userIds });
    if (!going()) return false;
    this.#learn((known) => {
      for (const { userId, status, lastSeen } of items) {
        if (!this.#told.has(userId) && this.#subscribed.has(userId)) known.set(userId, { status, lastSeen });
      }
    });
    return true;
  }

  #learn(change: (known: Map<string, Presence>) => void): void {
    const known = new Map(this.snapshot());
    change(known);
    this.set(known);
  }
}
