import type { Api } from "./api.js";
import { ChatError } from "./errors.js";
import { afterEvent, inOrder, leavesDoubt, type ListedConversation, type Overview } from "./overview.js";
import type { Conversation } from "./protocol.js";
import { insist } from "./retry.js";
import { Store } from "./store.js";

const PAGE = 200;
/** What leaves a doubt comes in bursts: one question for each. */
const DOUBT_MS = 150;

/**
 * The user's conversations, the most recently active first, with their unread counts. With the REST API
 * it is read anew after each connect; without, it has what was told since.
 */
export class Conversations extends Store<readonly ListedConversation[]> {
  #list: Overview = new Map();
  #me = "";
  /** What was told since the list was asked for: the answer may be older. */
  #sinceAsked: [name: string, payload: unknown][] | null = null;
  #life = 0;
  #doubts = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly api: Api | null,
    private readonly onError: (error: unknown) => void,
  ) {
    super([]);
  }

  get(conversationId: string): ListedConversation | undefined {
    return this.#list.get(conversationId);
  }

  connected(me: string, rooms: readonly string[]): void {
    this.#me = me;
    const there = new Set(rooms);
    this.#show(new Map([...this.#list].filter(([id]) => there.has(id))));
    if (this.api) void this.#refresh(this.api);
  }

  disconnected(): void {
    this.#life++;
    this.#sinceAsked = null;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#doubts.clear();
  }

  event(name: string, payload: unknown): void {
    this.#sinceAsked?.push([name, payload]);
    this.#take(name, payload);
  }

  #take(name: string, payload: unknown): void {
    const doubtful = leavesDoubt(this.#list, name, payload, this.#me);
    this.#show(afterEvent(this.#list, name, payload, this.#me));
    if (doubtful !== null) this.#doubt(doubtful);
  }

  #show(list: Overview): void {
    if (list === this.#list) return;
    this.#list = list;
    this.set(inOrder(list));
  }

  async #refresh(api: Api): Promise<void> {
    const life = ++this.#life;
    const told: [string, unknown][] = (this.#sinceAsked = []);
    try {
      const found = new Map<string, ListedConversation>();
      let cursor: string | null = null;
      do {
        const more: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
        const path = `/conversations?limit=${PAGE}${more}`;
        const page = await insist(() => api.request<Page>("GET", path));
        if (life !== this.#life) return;
        for (const one of page.items) found.set(one.id, one);
        cursor = page.nextCursor;
      } while (cursor !== null);
      this.#sinceAsked = null;
      this.#show(found);
      for (const [name, payload] of told) {
        this.#take(name, payload);
        // Whether the answer had it already cannot be seen from a mark.
        if (name.endsWith(":read")) this.#doubt((payload as { conversationId: string }).conversationId);
      }
    } catch (error) {
      if (life !== this.#life) return;
      this.#sinceAsked = null;
      this.onError(error);
    }
  }

  #doubt(conversationId: string): void {
    if (!this.api) return;
    this.#doubts.add(conversationId);
    const api = this.api;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const some = [...this.#doubts];
      this.#doubts.clear();
      for (const one of some) void this.#look(api, one);
    }, DOUBT_MS);
  }

  async #look(api: Api, conversationId: string): Promise<void> {
    const life = this.#life;
    const before = this.get(conversationId);
    const path = `/conversations/${encodeURIComponent(conversationId)}`;
    try {
      let view: Conversation, again: Conversation, count: number;
      do {
        view = await insist(() => api.request<Conversation>("GET", path));
        ({ count } = await insist(() => api.request<{ count: number }>("GET", `${path}/unread-count`)));
        again = await insist(() => api.request<Conversation>("GET", path));
        // A message in between would be counted, or not, and nobody could tell when it is heard of.
      } while (again.lastSeq !== view.lastSeq && life === this.#life);
      if (life !== this.#life) return;
      // Something came meanwhile: it is in the answer, or it is not.
      if (this.get(conversationId) !== before) this.#doubt(conversationId);
      else this.#show(new Map(this.#list).set(conversationId, { ...again, unreadCount: count }));
    } catch (error) {
      if (life !== this.#life || (error instanceof ChatError && error.code === "NOT_FOUND")) return;
      this.onError(error);
    }
  }
}

interface Page {
  readonly items: readonly ListedConversation[];
  readonly nextCursor: string | null;
}
