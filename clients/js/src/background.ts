import type { Api } from "./api.js";
import type { Connection } from "./connection.js";
import { offline, type ChatError } from "./errors.js";
import { insist } from "./retry.js";

/** As often it fails before anybody is told: while nodes change places the REST API is away for a moment. */
const QUIET_FAILURES = 3;

/** What the client asks the REST API for by itself. */
export class Background {
  constructor(
    private readonly api: Api,
    private readonly connection: Pick<Connection, "online" | "pause">,
    private readonly onError: (error: unknown) => void,
  ) {}

  /**
   * The answer, however long it takes. Throws what waiting does not mend; and OFFLINE once the connection has
   * gone: with the next one everything is asked anew.
   */
  ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    let failures = 0;
    const mends = (error: ChatError): boolean => {
      if (!this.connection.online) return false;
      if (!error.temporary && error.code !== "OFFLINE" && error.code !== "NO_TOKEN") return false;
      if (++failures === QUIET_FAILURES) this.onError(error);
      return true;
    };
    const ask = (): Promise<T> => {
      if (!this.connection.online) return Promise.reject(offline());
      return this.api.request<T>(method, path, body);
    };
    return insist(ask, { tries: Infinity, mends, pause: (ms) => this.connection.pause(ms) });
  }
}
