import type { Background } from "./background.js";
import { ChatError, isOffline } from "./errors.js";
import { afterEvent, inOrder, needsRevalidation, type ListedConversation, type Overview } from "./overview.js";
import type { Conversation, ServerEvents } from "./protocol.js";
import { Revalidation } from "./revalidation.js";
import { Store } from "./store.js";

const PAGE = 50;

/**
 * The user's conversations, the most recently active first, with their unread counts. With the REST API the list
 * is read again after each connect. Without it, the list has only conversations from events.
 */
export class Conversations extends Store<readonly ListedConversation[]> {
  #list: Overview = new Map();
  #me = "";
  /** Events since the list was requested, because the answer can be older than they are. */
  #sinceAsked: [name: string, payload: unknown][] | null = null;
  #life = 0;
  #revalidation: Revalidation | null;

  constructor(
    private readonly background: Background | null,
    private readonly onError: (error: unknown) => void,
  ) {
    super([]);
    const size = (id: string): number => this.get(id)?.participantCount ?? 0;
    this.#revalidation = background && new Revalidation((id) => this.#look(background, id), size);
  }

  get(conversationId: string): ListedConversation | undefined {
    return this.#list.get(conversationId);
  }

  connected({ userId, rooms, roomsTruncated }: ServerEvents["connected"]): void {
    this.#me = userId;
    const there = new Set(rooms);
    const still = [...this.#list].filter(([id]) => roomsTruncated || there.has(id));
    if (this.background) {
      if (still.length < this.#list.size) this.#show(new Map(still));
      void this.#refresh(this.background, rooms);
    } else {
      // Without the REST API, the number of messages during the outage is unknown.
      this.#show(new Map(still.map(([id, conversation]) => [id, { ...conversation, unreadCount: null }])));
    }
  }

  disconnected(): void {
    this.#life++;
    this.#sinceAsked = null;
    this.#revalidation?.cancel();
  }

  event(name: string, payload: unknown): void {
    this.#sinceAsked?.push([name, payload]);
    this.#take(name, payload);
  }

  #take(name: string, payload: unknown): void {
    const uncertain = needsRevalidation(this.#list, name, payload, this.#me);
    this.#show(afterEvent(this.#list, name, payload, this.#me));
    if (uncertain !== null) this.#revalidation?.schedule(uncertain);
  }

  #show(list: Overview): void {
    if (list === this.#list) return;
    this.#list = list;
    this.set(inOrder(list));
  }

  async #refresh(background: Background, rooms: readonly string[]): Promise<void> {
    const life = ++this.#life;
    const told: [string, unknown][] = (this.#sinceAsked = []);
    try {
      const found = new Map<string, ListedConversation>();
      let cursor: string | null = null;
      do {
        const more: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
        const page: Page = await background.ask<Page>("GET", `/conversations?limit=${PAGE}${more}`);
        if (life !== this.#life) return;
        for (const conversation of page.items) found.set(conversation.id, conversation);
        cursor = page.nextCursor;
      } while (cursor !== null);
      this.#sinceAsked = null;
      this.#show(found);
      // A conversation that moved to the top while the pages were read is on none of them.
      for (const id of rooms) if (!found.has(id)) this.#revalidation?.schedule(id);
      for (const [name, payload] of told) {
        this.#take(name, payload);
        // A read mark does not show whether the answer included it.
        if (name.endsWith(":read")) this.#revalidation?.schedule((payload as { conversationId: string }).conversationId);
      }
    } catch (error) {
      if (life !== this.#life) return;
      this.#sinceAsked = null;
      if (!isOffline(error)) this.onError(error);
    }
  }

  /** Read one conversation. Returns false if it changed in between, so that the answer is uncertain. */
  async #look(background: Background, conversationId: string): Promise<boolean> {
    const life = this.#life;
    const before = this.get(conversationId);
    const path = `/conversations/${encodeURIComponent(conversationId)}`;
    try {
      const view = await background.ask<Conversation>("GET", path);
      const { count } = await background.ask<{ count: number }>("GET", `${path}/unread-count`);
      const again = await background.ask<Conversation>("GET", path);
      if (life !== this.#life) return true;
      // A message in between may or may not be in the count, and its event does not tell which.
      if (again.lastSeq !== view.lastSeq || this.get(conversationId) !== before) return false;
      this.#show(new Map(this.#list).set(conversationId, { ...again, unreadCount: count }));
    } catch (error) {
      const gone = error instanceof ChatError && error.code === "NOT_FOUND";
      if (life === this.#life && !gone && !isOffline(error)) this.onError(error);
    }
    return true;
  }
}

interface Page {
  readonly items: readonly ListedConversation[];
  readonly nextCursor: string | null;
}
