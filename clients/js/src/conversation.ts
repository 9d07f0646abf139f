import { Activity } from "./activity.js";
import type { Connection } from "./connection.js";
import { ChatError } from "./errors.js";
import { History } from "./history.js";
import { pending, sent, type ListedMessage } from "./listed.js";
import { Marker } from "./marker.js";
import { hasRead, lastRead, marked, type ReadEvent, type ReadMarks } from "./marks.js";
import type { NewMessage, Outbox } from "./outbox.js";
import type { Answers, Conversation as View, Message, ServerEvents } from "./protocol.js";
import { insist } from "./retry.js";
import { Store, type Observable } from "./store.js";
import { asChange, type Change } from "./timeline.js";

export interface ConversationSnapshot {
  /**
   * `idle` before `open()`; `loading` until there is something to show; `live`, up to date; `stale`, as it
   * was before the connection went, and about to be caught up; `closed`, one is no participant (any more).
   */
  readonly status: "idle" | "loading" | "live" | "stale" | "closed";
  /** The oldest first; what is on its way comes last. */
  readonly messages: readonly ListedMessage[];
  readonly hasOlder: boolean;
  readonly isLoadingOlder: boolean;
  readonly typing: readonly string[];
  readonly recording: readonly string[];
  readonly marks: ReadMarks;
}

/**
 * Where a conversation gets what is not its own.
 * @internal
 */
export interface Surroundings {
  readonly connection: Connection;
  readonly outbox: Outbox;
  userId(): string | null;
  /** The conversation with its participants and their marks; null when there is no way to ask. */
  view(conversationId: string): Promise<View | null>;
  error(error: unknown): void;
}

/** One conversation: its messages in order and without gaps, through every reconnection. */
export class Conversation implements Observable<ConversationSnapshot> {
  readonly snapshot: Observable<ConversationSnapshot>["snapshot"];
  readonly subscribe: Observable<ConversationSnapshot>["subscribe"];
  #store: Store<ConversationSnapshot>;
  #history: History;
  #shown = new WeakMap<Message, ListedMessage>();
  /** Acknowledged, and not heard of in its place yet. */
  #acknowledged: readonly Message[] = [];
  #opened: { promise: Promise<void>; resolve(): void; reject(error: unknown): void } | null = null;
  #openings = 0;
  /** What is told while the conversation catches up; null while it is live. */
  #held: Change[] | null = [];
  #life = 0;
  #older: Promise<void> | null = null;
  #marker: Marker;
  #typing: Activity;
  #recording: Activity;

  /** @internal */
  constructor(
    readonly id: string,
    private readonly around: Surroundings,
  ) {
    this.#store = new Store<ConversationSnapshot>({
      status: "idle",
      messages: [],
      hasOlder: false,
      isLoadingOlder: false,
      typing: [],
      recording: [],
      marks: new Map(),
    });
    this.snapshot = this.#store.snapshot;
    this.subscribe = this.#store.subscribe;
    this.#history = new History(around.connection, id);
    this.#marker = new Marker(around.connection, id, around.error);
    this.#typing = new Activity(around.connection, "typing", id);
    this.#recording = new Activity(around.connection, "recording", id);
    this.#show({});
  }

  // --- what the app does ------------------------------------------------------------------------------

  /**
   * Load the newest messages and stay up to date, until `close()` was called as often. Resolves when they
   * are there, which waits for a connection; rejects with NOT_FOUND for who is no participant.
   */
  open(): Promise<void> {
    this.#openings++;
    return this.#open();
  }

  #open(): Promise<void> {
    if (this.#opened && this.snapshot().status !== "closed") return this.#opened.promise;
    let settle = {} as { resolve(): void; reject(error: unknown): void };
    const promise = new Promise<void>((resolve, reject) => (settle = { resolve, reject }));
    promise.catch(() => undefined); // `status` says it, too.
    this.#opened = { promise, ...settle };
    this.#show({ status: "loading" });
    if (this.around.connection.online) this.#begin();
    return promise;
  }

  /** Undo one `open()`. With the last one the messages are forgotten. */
  close(): void {
    if (this.#openings === 0 || --this.#openings > 0) return;
    this.#opened = null;
    this.#forget("idle");
  }

  /**
   * Say something. It is in the list at once, and is sent again until the server has acknowledged it, or
   * has refused it for good; then it is `failed`. Messages of a conversation keep their order.
   */
  send(message: string | NewMessage): { readonly clientMessageId: string; readonly sent: Promise<Message> } {
    this.stopTyping();
    this.stopRecording();
    return this.around.outbox.add(this.id, typeof message === "string" ? { content: message } : message);
  }

  /** Send again what failed. */
  retry(clientMessageId: string): void {
    this.around.outbox.retry(clientMessageId);
  }

  /** Take what failed, or waits, out of the list. */
  discard(clientMessageId: string): void {
    this.around.outbox.discard(clientMessageId);
  }

  edit(messageId: string, content: string): Promise<Message> {
    return insist(() => this.around.connection.call("message:edit", { messageId, content }));
  }

  delete(messageId: string, scope: "everyone" | "self" = "everyone"): Promise<Answers["message:delete"]> {
    return insist(() => this.around.connection.call("message:delete", { messageId, scope }));
  }

  react(messageId: string, emoji: string): Promise<Answers["reaction:add"]> {
    return insist(() => this.around.connection.call("reaction:add", { messageId, emoji }));
  }

  unreact(messageId: string, emoji: string): Promise<Answers["reaction:remove"]> {
    return insist(() => this.around.connection.call("reaction:remove", { messageId, emoji }));
  }

  /** Everything up to the newest message here has been seen. Told now, or with the next connection. */
  markRead(): void {
    const { last } = this.#history.timeline;
    if (last) this.#marker.seen(last);
  }

  /** Who has read a message, of those whose marks are known. */
  readersOf(message: ListedMessage): readonly string[] {
    const { seq } = message;
    if (seq === null) return [];
    const readers = [...this.snapshot().marks].filter(([, mark]) => hasRead(mark, seq));
    return readers.map(([userId]) => userId).filter((userId) => userId !== message.senderId);
  }

  /** The user is typing: call it with every key. It ends by itself, and with `send`. */
  typing(): void {
    this.#typing.goesOn();
  }

  stopTyping(): void {
    this.#typing.ends();
  }

  /** The user is recording: call it every second or so. */
  recording(): void {
    this.#recording.goesOn();
  }

  stopRecording(): void {
    this.#recording.ends();
  }

  /** Load the page before the oldest message here. */
  loadOlder(count?: number): Promise<void> {
    if (!this.#history.hasOlder) return Promise.resolve();
    if (!this.#older) {
      this.#older = this.#history.older(count).finally(() => {
        this.#older = null;
        this.#show({ isLoadingOlder: false });
      });
      this.#show({ isLoadingOlder: true });
    }
    return this.#older;
  }

  // --- what the client tells --------------------------------------------------------------------------

  /** @internal */
  connected(isParticipant: boolean): void {
    if (!this.#opened) return;
    if (!isParticipant) this.#closed();
    else if (this.snapshot().status === "closed") void this.#open();
    else this.#begin();
  }

  /** @internal */
  disconnected(): void {
    this.#life++;
    this.#held = [];
    this.#typing.forget();
    this.#recording.forget();
    const status = this.snapshot().status === "live" ? { status: "stale" as const } : {};
    this.#show({ ...status, typing: [], recording: [] });
  }

  /** @internal */
  event(name: string, payload: unknown): void {
    if (!this.#opened) return;
    const change = asChange(name, payload);
    if (change) {
      if (this.#held) this.#held.push(change);
      else this.#take([change]);
      return;
    }
    switch (name) {
      case "conversation:removed":
        return this.#closed();
      case "conversation:joined":
        if (this.snapshot().status === "closed") void this.#open();
        return;
      case "participant:removed":
        return this.#active((payload as ServerEvents["participant:removed"]).userId, false, "typing", "recording");
      case "user:typing":
      case "user:recording": {
        const { userId, isActive, type } = payload as ServerEvents["user:typing" | "user:recording"];
        return this.#active(userId, isActive, type);
      }
      case "message:read":
      case "conversation:read":
        return this.#read(name, payload as ReadEvent);
    }
  }

  /** @internal */
  outboxChanged(): void {
    this.#show({});
  }

  /** @internal */
  acknowledged(message: Message): void {
    // As a rule it was heard of before. Not while catching up, nor when another node was first.
    if (!this.#opened || message.seq < this.#history.timeline.next) return;
    this.#acknowledged = [...this.#acknowledged, message];
  }

  // --- staying up to date -----------------------------------------------------------------------------

  #begin(): void {
    this.#held = [];
    void this.#catchUp();
  }

  #take(changes: readonly Change[]): void {
    for (const [at, change] of changes.entries()) {
      if (this.#history.timeline.apply(change)) continue;
      this.#held = changes.slice(at);
      void this.#catchUp();
      this.#show({ status: "stale" });
      return;
    }
    this.#show({});
  }

  /** Read what is new or has changed, then take in what was told meanwhile, in the order of changes. */
  async #catchUp(): Promise<void> {
    const life = ++this.#life;
    const going = (): boolean => life === this.#life;
    try {
      await this.#history.catchUp(going);
      if (!going()) return;
      const held = this.#held ?? [];
      this.#held = null;
      this.#take(held.sort((a, b) => a.payload.rev - b.payload.rev));
      if (!going()) return;
      this.#show({ status: "live" });
      this.#opened?.resolve();
      this.#marker.goOn();
      await this.#readMarks(going);
    } catch (error) {
      if (!going()) return;
      if (error instanceof ChatError && error.code === "NOT_FOUND") this.#closed();
      // After OFFLINE the next connection begins it anew.
      else if (!(error instanceof ChatError && error.code === "OFFLINE")) {
        this.around.error(error);
        this.#opened?.reject(error);
      }
    }
  }

  #closed(): void {
    this.#opened?.reject(new ChatError("NOT_FOUND", "You are no participant of this conversation."));
    this.#forget("closed");
  }

  #forget(status: "idle" | "closed"): void {
    this.#life++;
    this.#held = [];
    this.#history.forget();
    this.#acknowledged = [];
    this.#marker.forget();
    this.#typing.forget();
    this.#recording.forget();
    this.#show({ status, typing: [], recording: [], marks: new Map() });
  }

  // --- marks, typing ----------------------------------------------------------------------------------

  async #readMarks(going: () => boolean): Promise<void> {
    const view = await this.around.view(this.id);
    if (!view || !going()) return;
    let { marks } = this.snapshot();
    for (const { userId, lastReadSeq } of view.participants) {
      marks = marked(marks, "conversation:read", userId, lastReadSeq);
    }
    this.#show({ marks });
  }

  #read(name: string, event: ReadEvent): void {
    const last = lastRead(event);
    const seq = last === null ? undefined : this.#history.timeline.seqOf(last);
    if (seq !== undefined) this.#show({ marks: marked(this.snapshot().marks, name, event.userId, seq) });
  }

  #active(userId: string, isActive: boolean, ...kinds: ("typing" | "recording")[]): void {
    for (const kind of kinds) {
      const others = this.snapshot()[kind].filter((one) => one !== userId);
      this.#show({ [kind]: isActive ? [...others, userId] : others });
    }
  }

  // --- the snapshot -----------------------------------------------------------------------------------

  #show(changes: Partial<ConversationSnapshot>): void {
    const on = this.#history.timeline.messages.map((one) => this.#sent(one));
    this.#acknowledged = this.#acknowledged.filter((one) => one.seq >= this.#history.timeline.next);
    const late = this.#acknowledged.map((one) => ({ ...this.#sent(one), seq: null }));
    const me = this.around.userId() ?? "";
    let waiting = this.around.outbox.of(this.id).map((one) => pending(one, me));
    if (waiting.length > 0) {
      // What is heard of before it is acknowledged is in the list already.
      const there = new Set([...on, ...late].map((one) => one.key));
      waiting = waiting.filter((one) => !there.has(one.key));
    }
    const { hasOlder } = this.#history;
    this.#store.set({ ...this.snapshot(), ...changes, messages: [...on, ...late, ...waiting], hasOlder });
  }

  #sent(message: Message): ListedMessage {
    let shown = this.#shown.get(message);
    if (!shown) {
      shown = sent(message);
      this.#shown.set(message, shown);
    }
    return shown;
  }
}
