import { ChatError } from "./errors.js";

/** Long enough for an app that requests the token from its back end. */
const ANSWER_MS = 15_000;

/** The current token, and the source of the next one. Concurrent callers share one request. */
export class Tokens {
  #current: string | null = null;
  #coming: Promise<string> | null = null;

  constructor(private readonly getToken: () => Promise<string>) {}

  async current(): Promise<string> {
    return this.#current ?? (await this.fresh());
  }

  /** Returns a new token. Throws NO_TOKEN. */
  fresh(): Promise<string> {
    this.#coming ??= this.#ask().finally(() => (this.#coming = null));
    return this.#coming;
  }

  async #ask(): Promise<string> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    // Otherwise every attempt to connect would wait for a promise that never settles.
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("getToken took too long.")), ANSWER_MS);
    });
    try {
      return (this.#current = await Promise.race([this.getToken(), late]));
    } catch (cause) {
      throw new ChatError("NO_TOKEN", "getToken failed.", {}, { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Returns when a token expires, in ms since 1970; null if the token does not tell. */
export function endOf(token: string): number | null {
  try {
    const payload = token.split(".")[1] ?? "";
    const claims: unknown = JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/")));
    const exp = (claims as { exp?: unknown } | null)?.exp;
    return typeof exp === "number" ? exp * 1000 : null;
  } catch {
    return null; // Not a readable JWT: the server reports when it has expired.
  }
}
