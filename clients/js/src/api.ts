import { ChatError } from "./errors.js";
import type { ErrorShape } from "./protocol.js";
import type { Tokens } from "./tokens.js";

const ANSWER_MS = 10_000;

/** The REST API, as the app's own back end proxies it. */
export class Api {
  constructor(
    private readonly base: string,
    private readonly tokens: Tokens,
  ) {}

  /** `path` begins behind `/api`. The decoded body, undefined for 204. Throws ChatError. */
  async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    try {
      return await this.#ask<T>(await this.tokens.current(), method, path, body);
    } catch (error) {
      if (!(error instanceof ChatError) || error.code !== "TOKEN_EXPIRED") throw error;
      return this.#ask<T>(await this.tokens.fresh(), method, path, body);
    }
  }

  async #ask<T>(token: string, method: string, path: string, body: unknown): Promise<T> {
    const headers: Record<string, string> = { authorization: `Bearer ${token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    const sent = body === undefined ? null : JSON.stringify(body);
    let status: number;
    let text: string;
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      const answer = await fetch(this.base + path, { method, headers, body: sent, signal });
      status = answer.status;
      text = await answer.text();
    } catch (cause) {
      const late = cause instanceof DOMException && cause.name === "TimeoutError";
      throw new ChatError(late ? "TIMEOUT" : "OFFLINE", `No answer to ${method} ${path}.`, {}, { cause });
    }
    if (status >= 400) throw refusal(status, text);
    return (text ? JSON.parse(text) : undefined) as T;
  }
}

function refusal(status: number, text: string): ChatError {
  let error: ErrorShape | undefined;
  try {
    error = (JSON.parse(text) as { error?: ErrorShape }).error;
  } catch {
    // A page of the proxy in front: the status has to do.
  }
  if (error?.code) return ChatError.of(error);
  return new ChatError(status >= 500 ? "UNAVAILABLE" : "NOT_FOUND", `The answer was ${status}.`);
}
