import { Api } from "./api.js";
import { Background } from "./background.js";
import { Connection, type ConnectionState, type Listener, type SocketSettings } from "./connection.js";
import { Conversation } from "./conversation.js";
import { Conversations } from "./conversations.js";
import { Outbox } from "./outbox.js";
import type { OutboxStorage } from "./outbox_storage.js";
import type { ListedConversation } from "./overview.js";
import { query, type Page, type PageQuery, type Participant, type ParticipantQuery, type Reaction, type ReactionQuery, type Reader } from "./pages.js";
import { PresenceMap, type Presence, type PresencePage } from "./presence.js";
import type { Answers, Conversation as View, Message, Requests, ServerEvents } from "./protocol.js";
import { guarded, type Observable } from "./store.js";
import { Tokens } from "./tokens.js";

export interface ChatOptions {
  /** The chat server's URL for Socket.IO, e.g. `https://chat.example.com`. */
  readonly url: string;
  /** Returns a valid token. Called for each connect, before the current token expires, and after it has expired. */
  readonly getToken: () => Promise<string>;
  /**
   * The URL at which the app's back end proxies the REST API, e.g. `/api`. It is needed for the list of
   * conversations, for unread counts, and for the participants of an open conversation.
   */
  readonly api?: string;
  /** Keeps unsent messages when the page closes. Default: in memory only. Use one storage per user. */
  readonly storage?: OutboxStorage;
  /** Use WebSocket only (default). Then no load balancer must keep a session on its node. */
  readonly forceWebSocket?: boolean;
  /** More options for socket.io-client, e.g. `path` or `extraHeaders`. */
  readonly socket?: SocketSettings;
  /** Receives errors that belong to no call, e.g. a full storage. Default: the console. */
  readonly onError?: (error: unknown) => void;
}

export class ChatClient {
  /** The state of the connection: why it is down, and when the client tries again. */
  readonly state: Observable<ConnectionState>;
  /** The user's conversations, the most recently active first. */
  readonly conversations: Observable<readonly ListedConversation[]>;
  readonly presence: Observable<ReadonlyMap<string, Presence>>;
  #connection: Connection;
  #outbox: Outbox;
  #api: Api | null;
  #background: Background | null;
  #list: Conversations;
  #presence: PresenceMap;
  #open = new Map<string, Conversation>();
  #listeners = new Map<string, Set<(payload: never) => void>>();
  #userId: string | null = null;
  /** The rooms that the socket is in; null if it is in all of the user's. */
  #rooms: Set<string> | null = null;
  #onError: (error: unknown) => void;
  readonly #hurry = (): void => this.#connection.hurry();
  readonly #looked = (): void => {
    if (document.visibilityState === "visible") this.#connection.hurry();
  };

  constructor(options: ChatOptions) {
    const { onError } = options;
    this.#onError = (error) => (onError ? guarded(() => onError(error)) : console.error(error));
    const tokens = new Tokens(options.getToken);
    const transports = options.forceWebSocket ?? true ? { transports: ["websocket"] } : {};
    const settings = { ...transports, ...options.socket };
    this.#connection = new Connection(options.url, tokens, this.#listener(), settings);
    this.#api = options.api === undefined ? null : new Api(options.api, tokens);
    this.#background = this.#api && new Background(this.#api, this.#connection, this.#onError);
    this.#list = new Conversations(this.#background, this.#onError);
    this.#presence = new PresenceMap(this.#connection, this.#onError);
    const listener = {
      changed: (id: string) => this.#open.get(id)?.outboxChanged(),
      acknowledged: (message: Message) => this.#open.get(message.conversationId)?.acknowledged(message),
      error: this.#onError,
    };
    this.#outbox = new Outbox(this.#connection, listener, options.storage ?? null);
    this.state = this.#connection.state;
    this.conversations = this.#list;
    this.presence = this.#presence;
  }

  /** The user's id; null until the first connection. */
  get userId(): string | null {
    return this.#userId;
  }

  /** Connect, and stay connected. If a retry is scheduled, try now. */
  connect(): void {
    if (typeof addEventListener === "function") addEventListener("online", this.#hurry);
    if (typeof document !== "undefined") document.addEventListener("visibilitychange", this.#looked);
    this.#connection.connect();
  }

  /** Go offline until `connect()`. The outbox keeps its messages. */
  close(): void {
    if (typeof removeEventListener === "function") removeEventListener("online", this.#hurry);
    if (typeof document !== "undefined") document.removeEventListener("visibilitychange", this.#looked);
    this.#connection.close();
  }

  /** Returns this conversation, the same object each time. Call `open()` to load its messages. */
  conversation(id: string): Conversation {
    let conversation = this.#open.get(id);
    if (!conversation) {
      conversation = new Conversation(id, {
        connection: this.#connection,
        outbox: this.#outbox,
        userId: () => this.#userId,
        enter: (conversationId) => this.#enter(conversationId),
        view: (conversationId) => this.#view(conversationId),
        watch: (userIds) => this.watch(userIds),
        error: this.#onError,
      });
      this.#open.set(id, conversation);
    }
    return conversation;
  }

  /** Returns the conversation with one other user, and creates it if there is none. Needs `api`. */
  async direct(userId: string): Promise<Conversation> {
    return this.conversation((await this.request<View>("POST", "/conversations/direct", { userId })).id);
  }

  /**
   * Returns a page of a conversation's participants: the owner, the admins and the members, in the order of joining.
   * Needs `api`.
   */
  participants(conversationId: string, page: ParticipantQuery = {}): Promise<Page<Participant>> {
    return this.request("GET", `/conversations/${encodeURIComponent(conversationId)}/participants${query(page)}`);
  }

  /** Returns a page of the users who have reacted to a message, by emoji. `count` is that of all pages. Needs `api`. */
  reactions(messageId: string, page: ReactionQuery = {}): Promise<Page<Reaction>> {
    return this.request("GET", `/messages/${encodeURIComponent(messageId)}/reactions${query(page)}`);
  }

  /** Returns a page of the users who have read a message, the first one first. Needs `api`. */
  readers(messageId: string, page: PageQuery = {}): Promise<Page<Reader>> {
    return this.request("GET", `/messages/${encodeURIComponent(messageId)}/read${query(page)}`);
  }

  /**
   * Keep the presence of these users in `presence` until the returned function is called: those whom the app shows, at
   * most 1,000. The participants in the view of an open conversation are watched already.
   */
  watch(userIds: Iterable<string>): () => void {
    return this.#presence.watch(userIds);
  }

  /**
   * Read a page of a conversation's participants, online users first. It is as of now, or 10 s old; `watch` those whom
   * you show. Needs `api`.
   */
  presencePage(conversationId: string, page: PageQuery = {}): Promise<PresencePage> {
    return this.request("GET", `/conversations/${encodeURIComponent(conversationId)}/presence${query(page)}`);
  }

  /** Send any event of the protocol, once. Throws ChatError; without a connection immediately, with OFFLINE. */
  call<E extends keyof Requests>(event: E, payload: Requests[E]): Promise<Answers[E]> {
    return this.#connection.call(event, payload);
  }

  /** Send any request of the REST API; `path` is the part after `/api`. Throws ChatError. */
  request<T>(method: string, path: string, body?: unknown): Promise<T> {
    if (!this.#api) return Promise.reject(new TypeError("Set the option `api` to the URL of the REST API."));
    return this.#api.request<T>(method, path, body);
  }

  /** Listen to raw events from the server: nothing is buffered, filled in or reordered. Returns a function that unsubscribes. */
  on<E extends keyof ServerEvents>(event: E, listener: (payload: ServerEvents[E]) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  #listener(): Listener {
    return {
      connected: (welcome) => {
        this.#userId = welcome.userId;
        const rooms = new Set(welcome.rooms);
        this.#rooms = welcome.roomsTruncated ? rooms : null;
        // The user may participate in a conversation whose room the socket is not in.
        const mayBeIn = (id: string): boolean => welcome.roomsTruncated === true || rooms.has(id);
        for (const conversation of this.#open.values()) conversation.connected(mayBeIn(conversation.id));
        this.#list.connected(welcome);
        this.#presence.connected();
        void this.#outbox.flush(welcome.userId);
        this.#tell("connected", welcome);
      },
      disconnected: () => {
        for (const conversation of this.#open.values()) conversation.disconnected();
        this.#list.disconnected();
        this.#presence.disconnected();
      },
      event: (name, payload) => {
        const id = conversationOf(name, payload);
        this.#presence.event(name, payload);
        this.#list.event(name, payload);
        if (id !== undefined) this.#open.get(id)?.event(name, payload);
        this.#tell(name, payload);
      },
      error: (error) => this.#onError(error),
    };
  }

  #tell(name: string, payload: unknown): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) guarded(() => listener(payload as never));
  }

  #enter(conversationId: string): Promise<unknown> | null {
    const rooms = this.#rooms;
    if (!rooms || rooms.has(conversationId)) return null;
    return this.#connection.call("room:join", { conversationId }).then(() => rooms.add(conversationId));
  }

  async #view(conversationId: string): Promise<View | null> {
    if (!this.#background) return null;
    return this.#background.ask<View>("GET", `/conversations/${encodeURIComponent(conversationId)}`);
  }
}

function conversationOf(name: string, payload: unknown): string | undefined {
  const { conversationId, id } = (payload ?? {}) as { conversationId?: string; id?: string };
  return name.startsWith("conversation:") ? (conversationId ?? id) : conversationId;
}
