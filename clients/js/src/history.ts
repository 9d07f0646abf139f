import type { Connection } from "./connection.js";
import { ChatError } from "./errors.js";
import type { Answers, Message } from "./protocol.js";
import { Timeline } from "./timeline.js";

type Synced = Answers["messages:sync"];

const PAGE = 50;
const MOST = 200;
/** After more new or changed messages than this, the history restarts with the newest page. */
const FAR = 1_000;
const END = Number.MAX_SAFE_INTEGER;

/** Reads the messages of a conversation into a timeline. Throws ChatError; OFFLINE leaves the timeline unchanged. */
export class History {
  timeline = new Timeline();
  loaded = false;

  constructor(
    private readonly connection: Connection,
    private readonly conversationId: string,
  ) {}

  get hasOlder(): boolean {
    return this.loaded && this.timeline.first > 1;
  }

  forget(): void {
    this.timeline = new Timeline();
    this.loaded = false;
  }

  /** Read new and changed messages; the first time, the newest page. Stops once `going` returns false. */
  async catchUp(going: () => boolean): Promise<void> {
    if (!this.loaded || !(await this.#readChanges(going))) await this.#readNewest(going);
    if (going()) this.loaded = true;
  }

  /** Read the page before the oldest loaded message. */
  async older(count = PAGE): Promise<void> {
    const { timeline } = this;
    let before: number;
    let messages: Message[];
    let generation: number;
    try {
      do {
        ({ first: before, generation } = timeline);
        timeline.expectOlder();
        messages = await this.#range(Math.max(0, before - 1 - count), before - 1, () => true);
        // A catch-up in between skipped changes of these messages: read them again.
      } while (generation !== timeline.generation);
      timeline.prepend(messages);
    } finally {
      timeline.expectNothing();
    }
  }

  #sync(position: { afterRev: number } | { afterSeq: number }, limit: number): Promise<Synced> {
    const asked = { conversationId: this.conversationId, ...position, limit };
    return this.connection.insist("messages:sync", asked);
  }

  /** Returns false if too much has changed to catch up. */
  async #readChanges(going: () => boolean): Promise<boolean> {
    const found: Message[] = [];
    let page: Synced;
    let afterRev = this.timeline.rev;
    do {
      page = await this.#sync({ afterRev }, MOST);
      if (!going()) return true;
      found.push(...page.messages);
      if (page.lastSeq - this.timeline.next > FAR || found.length > FAR) return false;
      afterRev = page.messages.at(-1)?.rev ?? afterRev;
    } while (page.hasMore);
    return this.timeline.merge(found, page.lastRev);
  }

  async #readNewest(going: () => boolean): Promise<void> {
    // First the position, then the messages. So they are at least as new, and events above the position come later.
    const { lastSeq, lastRev } = await this.#sync({ afterSeq: END }, 1);
    const messages = await this.#range(Math.max(0, lastSeq - PAGE), lastSeq, going);
    if (going()) this.timeline.reset(messages, lastSeq + 1, lastRev);
  }

  /** Returns the messages with after < seq <= last. */
  async #range(after: number, last: number, going: () => boolean): Promise<Message[]> {
    const found: Message[] = [];
    while (after < last && going()) {
      const page = await this.#sync({ afterSeq: after }, Math.min(MOST, last - after));
      const end = page.messages.at(-1);
      if (!end) throw new ChatError("INTERNAL", `The messages after ${after} are missing.`);
      found.push(...page.messages);
      after = end.seq;
    }
    return found;
  }
}
