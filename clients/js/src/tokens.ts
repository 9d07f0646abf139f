import { ChatError } from "./errors.js";

/** The token in use, and where the next one comes from. Those who ask at the same time share one. */
export class Tokens {
  #current: string | null = null;
  #coming: Promise<string> | null = null;

  constructor(private readonly getToken: () => Promise<string>) {}

  async current(): Promise<string> {
    return this.#current ?? (await this.fresh());
  }

  /** Throws NO_TOKEN. */
  fresh(): Promise<string> {
    this.#coming ??= this.#ask().finally(() => (this.#coming = null));
    return this.#coming;
  }

  async #ask(): Promise<string> {
    try {
      return (this.#current = await this.getToken());
    } catch (cause) {
      throw new ChatError("NO_TOKEN", "getToken failed.", {}, { cause });
    }
  }
}

/** When a token ends, in ms since 1970; null when that cannot be read from it. */
export function endOf(token: string): number | null {
  try {
    const payload = token.split(".")[1] ?? "";
    const claims: unknown = JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/")));
    const exp = (claims as { exp?: unknown } | null)?.exp;
    return typeof exp === "number" ? exp * 1000 : null;
  } catch {
    return null; // No JWT that we can read: the server says when it has expired.
  }
}
