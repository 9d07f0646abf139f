import { Activities, NOBODY, type Active } from "./activities.js";
import { Changes } from "./changes.js";
import type { Connection } from "./connection.js";
import type { ListedMessage } from "./displayed_message.js";
import { ChatError, isOffline } from "./errors.js";
import { Following } from "./following.js";
import { History } from "./history.js";
import type { ReadEvent, ReadMarks } from "./marks.js";
import { MessageList } from "./message_list.js";
import type { Outbox } from "./outbox.js";
import type { NewMessage } from "./outbox_storage.js";
import type { Answers, Conversation as View, Message, ServerEvents } from "./protocol.js";
import { Reading } from "./reading.js";
import { Store, type Observable } from "./store.js";
import { asChange } from "./timeline.js";

export interface ConversationSnapshot {
  /**
   * `idle`: not opened. `loading`: reads the first page. `live`: up to date. `stale`: as it was before the
   * connection was lost; it will catch up. `closed`: the user is not a participant, or not any more.
   */
  readonly status: "idle" | "loading" | "live" | "stale" | "closed";
  /** The oldest first, unsent ones last. An unchanged message is the same object as before. */
  readonly messages: readonly ListedMessage[];
  readonly hasOlder: boolean;
  readonly isLoadingOlder: boolean;
  /** Ids of other users. */
  readonly typing: readonly string[];
  readonly recording: readonly string[];
  readonly marks: ReadMarks;
}

/**
 * The parts of the client that a conversation uses.
 * @internal
 */
export interface Surroundings {
  readonly connection: Connection;
  readonly outbox: Outbox;
  userId(): string | null;
  /** The socket enters the room, if `connected` left it out; null if it did not. */
  enter(conversationId: string): Promise<unknown> | null;
  /** Returns the conversation with its participants and their marks; null without `api`. */
  view(conversationId: string): Promise<View | null>;
  /** Keeps the presence of these users until the returned function is called. */
  watch(userIds: readonly string[]): () => void;
  error(error: unknown): void;
}

/** One conversation: its messages in order and without gaps, through every reconnection. */
export class Conversation implements Observable<ConversationSnapshot> {
  readonly snapshot: Observable<ConversationSnapshot>["snapshot"];
  readonly subscribe: Observable<ConversationSnapshot>["subscribe"];
  #store: Store<ConversationSnapshot>;
  #history: History;
  #following: Following;
  #messageList: MessageList;
  #reading: Reading;
  #activities: Activities;
  #changes: Changes;
  #opened: { promise: Promise<void>; resolve(): void; reject(error: unknown): void } | null = null;
  #openings = 0;
  #older: Promise<void> | null = null;
  #unwatch = (): void => undefined;

  /** @internal */
  constructor(
    readonly id: string,
    private readonly around: Surroundings,
  ) {
    const { connection, outbox, userId } = around;
    const nothing = { messages: [], hasOlder: false, isLoadingOlder: false, marks: new Map() };
    this.#store = new Store<ConversationSnapshot>({ status: "idle", ...nothing, ...NOBODY });
    this.snapshot = this.#store.snapshot;
    this.subscribe = this.#store.subscribe;
    this.#history = new History(connection, id);
    this.#following = new Following(this.#history, connection, {
      enter: () => around.enter(id),
      changed: () => this.#show(),
      behind: () => this.#show({ status: "stale" }),
      live: (going) => this.#live(going),
      failed: (error) => this.#failed(error),
    });
    this.#messageList = new MessageList(id, outbox, userId);
    this.#reading = new Reading(connection, id, userId, around.error);
    this.#activities = new Activities(connection, id, userId);
    this.#changes = new Changes(connection);
    this.#show();
  }

  // --- calls of the app -------------------------------------------------------------------------------

  /**
   * Load the newest messages and stay up to date, until `close()` was called as many times as `open()`. Resolves
   * when they are loaded, which needs a connection. Rejects with NOT_FOUND if the user is not a participant.
   */
  open(): Promise<void> {
    this.#openings++;
    return this.#open();
  }

  #open(): Promise<void> {
    if (this.#opened && this.snapshot().status !== "closed") return this.#opened.promise;
    let settle = {} as { resolve(): void; reject(error: unknown): void };
    const promise = new Promise<void>((resolve, reject) => (settle = { resolve, reject }));
    promise.catch(() => undefined); // The app may look at `status` only.
    this.#opened = { promise, ...settle };
    this.#show({ status: "loading" });
    if (this.around.connection.online) this.#following.begin();
    return promise;
  }

  /** Undo one `open()`. After the last one the messages are forgotten. */
  close(): void {
    if (this.#openings === 0 || --this.#openings > 0) return;
    this.#opened = null;
    this.#reading.close();
    this.#forget("idle");
  }

  /**
   * Send a message. It is in the list immediately. The client repeats it until the server acknowledges it, or refuses
   * it for good; then it is `failed`. Messages of a conversation keep their order.
   */
  send(message: string | NewMessage): { readonly clientMessageId: string; readonly sent: Promise<Message> } {
    this.#activities.said();
    return this.around.outbox.add(this.id, typeof message === "string" ? { content: message } : message);
  }

  /** Send a failed message again. */
  retry(clientMessageId: string): void {
    this.around.outbox.retry(clientMessageId);
  }

  /** Remove a failed or waiting message from the list. */
  discard(clientMessageId: string): void {
    this.around.outbox.discard(clientMessageId);
  }

  edit(messageId: string, content: string): Promise<Message> {
    return this.#changes.edit(messageId, content);
  }

  delete(messageId: string, scope: "everyone" | "self" = "everyone"): Promise<Answers["message:delete"]> {
    return this.#changes.delete(messageId, scope);
  }

  react(messageId: string, emoji: string): Promise<Answers["reaction:add"]> {
    return this.#changes.react(messageId, emoji);
  }

  unreact(messageId: string, emoji: string): Promise<Answers["reaction:remove"]> {
    return this.#changes.unreact(messageId, emoji);
  }

  /** Mark everything up to the newest loaded message as read. Sent now, or with the next connection. */
  markRead(): void {
    this.#reading.seen(this.#history.timeline);
  }

  /** Returns the users who have read a message, among those whose marks are known. */
  readersOf(message: ListedMessage): readonly string[] {
    return this.#reading.readersOf(message);
  }

  /** The user is typing: call it with every key. It stops by itself, and with `send`. */
  typing(): void {
    this.#activities.typing.goesOn();
  }

  stopTyping(): void {
    this.#activities.typing.ends();
  }

  /** The user is recording: call it every second or so. */
  recording(): void {
    this.#activities.recording.goesOn();
  }

  stopRecording(): void {
    this.#activities.recording.ends();
  }

  /** Load the page before the oldest loaded message. */
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

  // --- calls of the client ----------------------------------------------------------------------------

  /** @internal */
  connected(mayParticipate: boolean): void {
    if (!this.#opened) this.#reading.goOn();
    else if (!mayParticipate) this.#closed();
    else if (this.snapshot().status === "closed") void this.#open();
    else this.#following.begin();
  }

  /** @internal */
  disconnected(): void {
    this.#following.stop();
    this.#activities.forget();
    this.#show({ ...this.#ifLive("stale"), ...NOBODY });
  }

  /** @internal */
  event(name: string, payload: unknown): void {
    if (!this.#opened) return;
    const change = asChange(name, payload);
    if (change) return this.#following.told(change);
    switch (name) {
      case "conversation:removed":
        return this.#closed();
      case "conversation:new":
      case "conversation:joined":
        return this.#admitted();
      case "participant:added": {
        const { userId, timestamp } = payload as ServerEvents["participant:added"];
        return this.#reading.joined(userId, timestamp);
      }
      case "message:read":
      case "conversation:read":
        this.#reading.told(name, payload as ReadEvent, this.#history.timeline);
        return this.#show();
      default: {
        const active: Active = this.snapshot();
        const { typing, recording } = this.#activities.after(active, name, payload);
        return this.#show({ typing, recording });
      }
    }
  }

  /** @internal */
  outboxChanged(): void {
    this.#show();
  }

  /** @internal */
  acknowledged(message: Message): void {
    // Usually its event arrived first. Not during catch-up, nor if another node stored the message.
    if (this.#opened && message.seq >= this.#history.timeline.next) this.#messageList.acknowledged(message);
  }

  // --- opening and closing ----------------------------------------------------------------------------

  async #live(going: () => boolean): Promise<void> {
    this.#show({ status: "live" });
    this.#opened?.resolve();
    this.#reading.goOn();
    try {
      const view = await this.around.view(this.id);
      if (!view || !going()) return;
      this.#reading.learn(view);
      this.#watch(view.participants.map(({ userId }) => userId));
      this.#show();
    } catch (error) {
      // The socket decides who is a participant: an error of the REST API does not close the conversation.
      if (going() && !isOffline(error)) this.around.error(error);
    }
  }

  #watch(userIds: readonly string[]): void {
    const before = this.#unwatch;
    this.#unwatch = this.around.watch(userIds);
    before();
  }

  /** The socket has just entered the room. */
  #admitted(): void {
    if (this.snapshot().status === "closed") return void this.#open();
    this.#show(this.#ifLive("stale"));
    this.#following.begin();
  }

  #failed(error: unknown): boolean {
    // The next connection starts it again.
    if (isOffline(error)) return false;
    if (error instanceof ChatError && error.code === "NOT_FOUND") {
      this.#closed();
      return false;
    }
    this.around.error(error);
    this.#opened?.reject(error);
    return true;
  }

  #closed(): void {
    this.#opened?.reject(new ChatError("NOT_FOUND", "You are not a participant of this conversation."));
    this.#reading.forget();
    this.#forget("closed");
  }

  #forget(status: "idle" | "closed"): void {
    this.#following.stop();
    this.#history.forget();
    this.#messageList.forget();
    this.#activities.forget();
    this.#watch([]);
    this.#show({ status, ...NOBODY });
  }

  // --- the snapshot -----------------------------------------------------------------------------------

  #ifLive(status: "stale"): Partial<ConversationSnapshot> {
    return this.snapshot().status === "live" ? { status } : {};
  }

  #show(changes: Partial<ConversationSnapshot> = {}): void {
    this.#reading.place(this.#history.timeline);
    const before = this.snapshot();
    const messages = this.#messageList.of(this.#history.timeline);
    const { hasOlder } = this.#history;
    const after = { ...before, ...changes, messages, hasOlder, marks: this.#reading.marks };
    const keys = Object.keys(after) as (keyof ConversationSnapshot)[];
    if (keys.some((key) => after[key] !== before[key])) this.#store.set(after);
  }
}
