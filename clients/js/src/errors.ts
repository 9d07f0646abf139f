import type { ErrorCode, ErrorShape } from "./protocol.js";

/**
 * The server's codes, and three of the client. `OFFLINE`: there is no connection, or it was lost before the
 * answer. `TIMEOUT`: no answer in time. `NO_TOKEN`: `getToken` failed.
 */
export type Code = ErrorCode | "OFFLINE" | "TIMEOUT" | "NO_TOKEN";

const TEMPORARY = new Set<Code>(["RATE_LIMITED", "UNAVAILABLE", "TIMEOUT", "INTERNAL"]);

export class ChatError extends Error {
  override readonly name = "ChatError";

  constructor(
    readonly code: Code,
    message: string,
    /** For `VALIDATION_FAILED`: each invalid field with its reasons. */
    readonly details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  static of(shape: ErrorShape): ChatError {
    return new ChatError(shape.code, shape.message, shape.details);
  }

  /** True if the same call may succeed a little later. */
  get temporary(): boolean {
    return TEMPORARY.has(this.code);
  }

  /** The wait that the server requests, or null. */
  get retryAfterMs(): number | null {
    const seconds = this.details["retryAfter"];
    return typeof seconds === "number" ? seconds * 1000 : null;
  }
}

export const offline = (): ChatError => new ChatError("OFFLINE", "There is no connection.");

export const isOffline = (error: unknown): boolean => error instanceof ChatError && error.code === "OFFLINE";
