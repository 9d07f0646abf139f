import type { ErrorCode, ErrorShape } from "./protocol.js";

/**
 * What the server says, and what it cannot say: `OFFLINE`, the connection is not there or was lost
 * before the answer; `TIMEOUT`, no answer came in time; `NO_TOKEN`, `getToken` failed.
 */
export type Code = ErrorCode | "OFFLINE" | "TIMEOUT" | "NO_TOKEN";

const TEMPORARY = new Set<Code>(["RATE_LIMITED", "UNAVAILABLE", "TIMEOUT", "INTERNAL"]);

export class ChatError extends Error {
  override readonly name = "ChatError";

  constructor(
    readonly code: Code,
    message: string,
    /** Of `VALIDATION_FAILED`: each wrong field with its reasons. */
    readonly details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  static of(shape: ErrorShape): ChatError {
    return new ChatError(shape.code, shape.message, shape.details);
  }

  /** Whether the same may succeed a little later. */
  get temporary(): boolean {
    return TEMPORARY.has(this.code);
  }

  /** How long the server asks to wait, if it does. */
  get retryAfterMs(): number | null {
    const seconds = this.details["retryAfter"];
    return typeof seconds === "number" ? seconds * 1000 : null;
  }
}

export const offline = (): ChatError => new ChatError("OFFLINE", "There is no connection.");

export const isOffline = (error: unknown): boolean => error instanceof ChatError && error.code === "OFFLINE";
