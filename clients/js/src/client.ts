import { Api } from "./api.js";
import { Background } from "./background.js";
import { Connection, type ConnectionState, type Listener, type SocketSettings } from "./connection.js";
import { Conversation } from "./conversation.js";
import { Conversations } from "./conversations.js";
import { Outbox } from "./outbox.js";
import type { OutboxStorage } from "./outbox_storage.js";
import type { ListedConversation } from "./overview.js";
import { PresenceMap, type Presence } from "./presence.js";
import type { Answers, Conversation as View, Message, Requests, ServerEvents } from "./protocol.js";
import { guarded, type Observable } from "./store.js";
import { Tokens } from "./tokens.js";

export interface ChatOptions {
  /** Where the chat server takes Socket.IO connections, e.g. `https://chat.example.com`. */
  readonly url: string;
  /** A token that is good now: asked for at each connect, before the one in use ends, and when it has. */
  readonly getToken: () => Promise<string>;
  /**
   * Where the app's back end proxies the REST API, e.g. `/api`. It is needed for the list of
   * conversations, unread counts, and the presence of people who were not heard of yet.
   */
  readonly api?: string;
  /** Where sends outlive the page; by default they live in memory. One for each user. */
  readonly storage?: OutboxStorage;
  /** Begin with WebSocket and stay with it (default): no balancer has to keep requests together. */
  readonly forceWebSocket?: boolean;
  /** More for socket.io-client, e.g. `path` or `extraHeaders`. */
  readonly socket?: SocketSettings;
  /** What went wrong beside any call, e.g. a storage that is full. Default: to the console. */
  readonly onError?: (error: unknown) => void;
}

/** Of a conversation that is opened: nobody looks at more people. */
const MOST_LOOKED_AT = 200;

export class ChatClient {
  /** Whether there is a connection, why not, and when it is tried again. */
  readonly state: Observable<ConnectionState>;
  /** The most recently active first. */
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
    this.#presence = new PresenceMap(this.#background, this.#onError);
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

  /** Who this is; null until the first connection. */
  get userId(): string | null {
    return this.#userId;
  }

  /** Connect, and stay connected. Also tries at once what would be tried later. */
  connect(): void {
    if (typeof addEventListener === "function") addEventListener("online", this.#hurry);
    if (typeof document !== "undefined") document.addEventListener("visibilitychange", this.#looked);
    this.#connection.connect();
  }

  /** Go offline, until `connect()`. What is in the outbox stays there. */
  close(): void {
    if (typeof removeEventListener === "function") removeEventListener("online", this.#hurry);
    if (typeof document !== "undefined") document.removeEventListener("visibilitychange", this.#looked);
    this.#connection.close();
  }

  /** The one object of this conversation; `open()` it to have its messages. */
  conversation(id: string): Conversation {
    let conversation = this.#open.get(id);
    if (!conversation) {
      conversation = new Conversation(id, {
        connection: this.#connection,
        outbox: this.#outbox,
        userId: () => this.#userId,
        view: (conversationId) => this.#view(conversationId),
        error: this.#onError,
      });
      this.#open.set(id, conversation);
    }
    return conversation;
  }

  /** The conversation with one other person; it is made if there is none yet. Needs `api`. */
  async direct(userId: string): Promise<Conversation> {
    return this.conversation((await this.request<View>("POST", "/conversations/direct", { userId })).id);
  }

  /** Ask for the presence of these people, now and after each connect. Needs `api`. */
  watch(userIds: readonly string[]): Promise<void> {
    return this.#presence.watch(userIds);
  }

  /** Any event of the protocol. Throws ChatError; without a connection at once, with OFFLINE. */
  call<E extends keyof Requests>(event: E, payload: Requests[E]): Promise<Answers[E]> {
    return this.#connection.call(event, payload);
  }

  /** Any request of the REST API; `path` begins behind `/api`. Throws ChatError. */
  request<T>(method: string, path: string, body?: unknown): Promise<T> {
    if (!this.#api) return Promise.reject(new TypeError("Say in the options where the REST API is: `api`."));
    return this.#api.request<T>(method, path, body);
  }

  /** Listen to what the server tells, as it comes: nothing is held, filled in, or put in order for it. */
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
        for (const conversation of this.#open.values()) conversation.connected(rooms.has(conversation.id));
        this.#list.connected(welcome.userId, welcome.rooms);
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
        if (name === "user:online") this.#presence.online(payload as ServerEvents["user:online"]);
        else if (name === "user:offline") this.#presence.offline(payload as ServerEvents["user:offline"]);
        else {
          const id = conversationOf(name, payload);
          this.#list.event(name, payload);
          if (id !== undefined) this.#open.get(id)?.event(name, payload);
        }
        this.#tell(name, payload);
      },
      error: (error) => this.#onError(error),
    };
  }

  #tell(name: string, payload: unknown): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) guarded(() => listener(payload as never));
  }

  async #view(conversationId: string): Promise<View | null> {
    if (!this.#background) return null;
    const view = await this.#background.ask<View>("GET", `/conversations/${encodeURIComponent(conversationId)}`);
    void this.#presence.look(view.participants.slice(0, MOST_LOOKED_AT).map((participant) => participant.userId));
    return view;
  }
}

function conversationOf(name: string, payload: unknown): string | undefined {
  const { conversationId, id } = (payload ?? {}) as { conversationId?: string; id?: string };
  return name.startsWith("conversation:") ? (conversationId ?? id) : conversationId;
}
