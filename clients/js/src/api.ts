import { ChatError, type Code } from "./errors.js";
import type { ErrorShape } from "./protocol.js";
import type { Tokens } from "./tokens.js";

const ANSWER_MS = 10_000;

/** The REST API, through the proxy of the app's back end. */
export class Api {
  constructor(
    private readonly base: string,
    private readonly tokens: Tokens,
  ) {}

  /** `path` is the part after `/api`. Returns the decoded body, undefined for 204. Throws ChatError. */
  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const token = await this.tokens.current();
    try {
      return await this.#ask<T>(token, method, path, body);
    } catch (error) {
      // The token has expired, or the secret that signed it has been rotated out.
      if (!(error instanceof ChatError) || !STALE.has(error.code)) throw error;
      const fresh = await this.tokens.fresh();
      if (fresh === token) throw error;
      return this.#ask<T>(fresh, method, path, body);
    }
  }

  async #ask<T>(token: string, method: string, path: string, body: unknown): Promise<T> {
    const headers: Record<string, string> = { authorization: `Bearer ${token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    const sent = body === undefined ? null : JSON.stringify(body);
    let answer: Response;
    let text: string;
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      answer = await fetch(this.base + path, { method, headers, body: sent, signal });
      text = await answer.text();
    } catch (cause) {
      const late = cause instanceof DOMException && cause.name === "TimeoutError";
      throw new ChatError(late ? "TIMEOUT" : "OFFLINE", `No answer to ${method} ${path}.`, {}, { cause });
    }
    if (!answer.ok) throw refusal(answer, text);
    try {
      return (text ? JSON.parse(text) : undefined) as T;
    } catch (cause) {
      const page = `The answer to ${method} ${path} is not JSON. Is \`api\` the URL of the REST API?`;
      throw new ChatError("VALIDATION_FAILED", page, {}, { cause });
    }
  }
}

const STALE = new Set<Code>(["TOKEN_EXPIRED", "UNAUTHENTICATED"]);

function refusal(answer: Response, text: string): ChatError {
  try {
    const { error } = JSON.parse(text) as { error?: ErrorShape };
    if (error?.code) return ChatError.of(error);
  } catch {
    // The body is a page of a proxy in front, so only the status is known.
  }
  const { status } = answer;
  const seconds = Number(answer.headers.get("retry-after"));
  return new ChatError(CODES[status] ?? other(status), `The answer has status ${status}.`, seconds > 0 ? { retryAfter: seconds } : {});
}

const CODES: Readonly<Record<number, Code>> = {
  401: "UNAUTHENTICATED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  408: "TIMEOUT",
  409: "CONFLICT",
  413: "PAYLOAD_TOO_LARGE",
  429: "RATE_LIMITED",
};

const other = (status: number): Code => (status >= 500 ? "UNAVAILABLE" : "VALIDATION_FAILED");
