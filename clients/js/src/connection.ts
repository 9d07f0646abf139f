import { io, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";
import { ChatError, offline, type Code } from "./errors.js";
import type { Answers, ErrorShape, Requests, ServerEvents } from "./protocol.js";
import { Renewal } from "./renewal.js";
import { backoff, insist } from "./retry.js";
import { Store } from "./store.js";
import type { Tokens } from "./tokens.js";

export interface ConnectionState {
  /**
   * `refused`: the server refuses this user or this token, for good or for now. The client leaves `refused` and
   * `offline` by itself at `retryAt`, or, if that is null, only with `connect()`.
   */
  readonly status: "connecting" | "online" | "offline" | "refused";
  /** The reason for being offline or refused; while connecting, the error of the last attempt. */
  readonly reason: ChatError | null;
  /** Time of the next attempt, in ms since 1970. */
  readonly retryAt: number | null;
}

export interface Listener {
  /** The socket is in its rooms. The listener now reads the events that it missed. */
  connected(welcome: ServerEvents["connected"]): void;
  /** No more events arrive, and calls fail with OFFLINE. */
  disconnected(): void;
  event(name: string, payload: unknown): void;
  error(error: unknown): void;
}

export type SocketSettings = Partial<ManagerOptions & SocketOptions>;

const CONNECT_MS = 15_000;
const ANSWER_MS = 10_000;
/** A page can have half a megabyte, and the line can be slow. */
const PAGE_MS = 40_000;
/** A connection that lived for less than this counts as failed: the back-off continues to grow. */
const STEADY_MS = 5_000;
/** The server closes the connection for a packet of 256 KiB. It answers smaller packets, also those over its limit. */
const MOST_BYTES = 250_000;
const FINAL = new Set<Code>(["UNAUTHENTICATED", "FORBIDDEN"]);

/**
 * One socket to the server, with its reconnection. Socket.IO's own reconnection is off: it does not reconnect after a
 * refusal, does not say when it will try, and buffers packets in between, which would then overtake the outbox.
 */
export class Connection {
  readonly state = new Store<ConnectionState>({ status: "offline", reason: null, retryAt: null });
  #socket: Socket;
  #online = false;
  #onlineSince = 0;
  #failures = 0;
  #attempt = 0;
  #told: ChatError | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renewal: Renewal;
  #pauses = new Set<() => void>();

  constructor(
    url: string,
    private readonly tokens: Tokens,
    private readonly listener: Listener,
    settings: SocketSettings,
  ) {
    const hand = (token: string): Promise<unknown> => this.call("auth:refresh", { token });
    this.#renewal = new Renewal(tokens, hand, (error) => listener.error(error));
    const own = { autoConnect: false, reconnection: false, forceNew: true };
    this.#socket = io(url, { ...settings, ...own });
    this.#socket.on("connected", (welcome: ServerEvents["connected"]) => this.#welcomed(welcome));
    this.#socket.on("connect_error", (error) => this.#lost(connectError(error)));
    this.#socket.on("disconnect", (reason) => {
      if (reason !== "io client disconnect") this.#lost(this.#told ?? new ChatError("OFFLINE", reason));
    });
    this.#socket.on("error", (shape: ErrorShape) => {
      // With the name of an event: an event that was sent without an acknowledgement failed.
      if (shape.event === undefined) this.#told = ChatError.of(shape);
      else this.listener.error(ChatError.of(shape));
    });
    this.#socket.onAny((name: string, payload: unknown) => {
      if (this.#online) this.listener.event(name, payload);
    });
  }

  get online(): boolean {
    return this.#online;
  }

  connect(): void {
    const { status } = this.state.snapshot();
    if (status === "connecting" || status === "online") return;
    this.#failures = 0;
    void this.#try();
  }

  close(): void {
    this.#end();
    this.state.set({ status: "offline", reason: null, retryAt: null });
  }

  /**
   * The network is back, or the user looks at the page again. Do not wait for `retryAt`, nor for the heartbeat to
   * detect that the connection has died.
   */
  hurry(): void {
    const { status, retryAt } = this.state.snapshot();
    if (status === "offline" && retryAt !== null) this.connect();
    else if (this.#online) void this.#probe();
  }

  async #probe(): Promise<void> {
    const attempt = this.#attempt;
    try {
      await this.call("ping", {});
    } catch (error) {
      if (attempt === this.#attempt && (error as ChatError).code === "TIMEOUT") this.#lost(error as ChatError);
    }
  }

  /** Send an event and return the data of its acknowledgement. Throws ChatError. */
  call<E extends keyof Requests>(event: E, payload: Requests[E]): Promise<Answers[E]> {
    if (!this.#online) return Promise.reject(offline());
    const unfit = whyNot(event, payload);
    if (unfit) return Promise.reject(unfit);
    return new Promise((resolve, reject) => {
      this.#socket
        .timeout(event === "messages:sync" ? PAGE_MS : ANSWER_MS)
        .emit(event, payload, (error: Error | null, answer: Answer<Answers[E]>) => {
          if (error) {
            const late = this.#online && error.message === "operation has timed out";
            reject(late ? new ChatError("TIMEOUT", "The server did not answer in time.") : offline());
          } else if (answer.ok) resolve(answer.data);
          else reject(ChatError.of(answer.error));
        });
    });
  }

  /** Repeat the call until it succeeds, or fails with an error that waiting cannot fix. Throws ChatError. */
  insist<E extends keyof Requests>(event: E, payload: Requests[E]): Promise<Answers[E]> {
    return insist(() => this.call(event, payload), { pause: (ms) => this.pause(ms) });
  }

  /** Wait for this time, or until the connection is lost. */
  pause(ms: number): Promise<void> {
    if (!this.#online) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#pauses.add(end);
    });
  }

  /** Send a volatile event, without an acknowledgement. Without a connection it is dropped. */
  tell<E extends keyof Requests>(event: E, payload: Requests[E]): void {
    if (this.#online) this.#socket.emit(event, payload);
  }

  async #try(): Promise<void> {
    clearTimeout(this.#timer);
    const attempt = ++this.#attempt;
    this.#told = null;
    this.state.set({ status: "connecting", reason: this.state.snapshot().reason, retryAt: null });
    try {
      const token = await this.tokens.fresh();
      if (attempt !== this.#attempt) return;
      this.#socket.auth = { token };
    } catch (error) {
      if (attempt === this.#attempt) this.#lost(error as ChatError);
      return;
    }
    this.#timer = setTimeout(() => {
      this.#lost(new ChatError("TIMEOUT", "The server did not answer in time."));
    }, CONNECT_MS);
    this.#socket.connect();
  }

  #welcomed(welcome: ServerEvents["connected"]): void {
    clearTimeout(this.#timer);
    this.#online = true;
    this.#onlineSince = Date.now();
    const { token } = this.#socket.auth as { token: string };
    this.#renewal.begin(token, Date.parse(welcome.timestamp) - Date.now());
    this.listener.connected(welcome);
    this.state.set({ status: "online", reason: null, retryAt: null });
  }

  /** The attempt or the connection has failed. Later reports about the same one are ignored. */
  #lost(reason: ChatError): void {
    const { status } = this.state.snapshot();
    if (status !== "connecting" && status !== "online") return;
    const wasOnline = this.#online;
    if (wasOnline && Date.now() - this.#onlineSince >= STEADY_MS) this.#failures = 0;
    this.#end();
    if (FINAL.has(reason.code)) {
      this.state.set({ status: "refused", reason, retryAt: null });
      return;
    }
    const expired = reason.code === "TOKEN_EXPIRED" && this.#failures === 0;
    const asked = reason.retryAfterMs;
    const delay = expired ? 0 : Math.max(backoff(this.#failures), (asked ?? 0) * (1 + Math.random() / 5));
    this.#failures++;
    this.#timer = setTimeout(() => void this.#try(), delay);
    const refused = !wasOnline && (reason.code === "RATE_LIMITED" || reason.code === "TOKEN_EXPIRED");
    this.state.set({ status: refused ? "refused" : "offline", reason, retryAt: Math.round(Date.now() + delay) });
  }

  #end(): void {
    this.#attempt++;
    clearTimeout(this.#timer);
    this.#renewal.end();
    const wasOnline = this.#online;
    this.#online = false;
    // Packets for a connection that died unnoticed would otherwise be sent first on the next one.
    this.#socket.sendBuffer.length = 0;
    this.#socket.disconnect();
    for (const end of [...this.#pauses]) end();
    if (wasOnline) this.listener.disconnected();
  }
}

type Answer<T> = { readonly ok: true; readonly data: T } | { readonly ok: false; readonly error: ErrorShape };

function connectError(error: Error & { data?: ErrorShape }): ChatError {
  if (error.data?.code) return ChatError.of(error.data);
  return new ChatError("OFFLINE", error.message, {}, { cause: error });
}

/** Returns why the event cannot be sent, or null. If sent and repeated, it would break one connection after another. */
function whyNot(event: string, payload: unknown): ChatError | null {
  try {
    const text = JSON.stringify([event, payload]);
    // A UTF-16 unit takes at most three bytes in UTF-8.
    if (text.length * 3 <= MOST_BYTES || new TextEncoder().encode(text).length <= MOST_BYTES) return null;
    return new ChatError("PAYLOAD_TOO_LARGE", `An event has at most ${MOST_BYTES} bytes.`);
  } catch (cause) {
    return new ChatError("VALIDATION_FAILED", "The payload cannot be written as JSON.", {}, { cause });
  }
}
