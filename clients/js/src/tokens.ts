import { ChatError } from "./errors.js";

/** An app that asks its back end for one has an answer by then. */
const ANSWER_MS = 15_000;

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
    let timer: ReturnType<typeof setTimeout> | undefined;
    // One that never comes would otherwise be waited for by every attempt to connect.
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("No token came in time.")), ANSWER_MS);
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
