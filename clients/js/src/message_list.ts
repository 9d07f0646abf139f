import { pending, sent, type ListedMessage } from "./displayed_message.js";
import type { Outbox } from "./outbox.js";
import type { OutboxEntry } from "./outbox_storage.js";
import type { Message } from "./protocol.js";
import type { Timeline } from "./timeline.js";

/**
 * The messages of a conversation as they are shown: stored ones, then unsent ones. An unchanged message is the same
 * object each time, and so is an unchanged list.
 */
export class MessageList {
  #list: readonly ListedMessage[] = [];
  /** Acknowledged, but not yet in the timeline. */
  #acknowledged: readonly Message[] = [];
  #sent = new WeakMap<Message, ListedMessage>();
  #late = new WeakMap<Message, ListedMessage>();
  #pending = new WeakMap<OutboxEntry, ListedMessage>();

  constructor(
    private readonly conversationId: string,
    private readonly outbox: Pick<Outbox, "of">,
    private readonly userId: () => string | null,
  ) {}

  acknowledged(message: Message): void {
    this.#acknowledged = [...this.#acknowledged, message];
  }

  forget(): void {
    this.#acknowledged = [];
  }

  of(timeline: Timeline): readonly ListedMessage[] {
    const me = this.userId() ?? "";
    const list = timeline.messages.map((message) => kept(this.#sent, message, () => sent(message, me)));
    if (this.#acknowledged.length > 0) {
      this.#acknowledged = this.#acknowledged.filter((message) => message.seq >= timeline.next);
      for (const message of this.#acknowledged) {
        list.push(kept(this.#late, message, () => ({ ...sent(message, me), seq: null })));
      }
    }
    const waiting = this.outbox.of(this.conversationId);
    if (waiting.length > 0) {
      // A message whose event comes before its acknowledgement is in the list already.
      const there = new Set(list.map((message) => message.key));
      for (const entry of waiting) {
        const shown = kept(this.#pending, entry, () => pending(entry, me));
        if (!there.has(shown.key)) list.push(shown);
      }
    }
    const same = list.length === this.#list.length && list.every((message, at) => message === this.#list[at]);
    return same ? this.#list : (this.#list = list);
  }
}

function kept<K extends object, V>(cache: WeakMap<K, V>, key: K, make: () => V): V {
  let value = cache.get(key);
  if (value === undefined) cache.set(key, (value = make()));
  return value;
}
