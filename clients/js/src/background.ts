import type { Api } from "./api.js";
import type { Connection } from "./connection.js";
import { offline, type ChatError } from "./errors.js";
import { insist } from "./retry.js";

/** Failures before `onError` is called: in a rolling restart the REST API is unavailable for a moment. */
const QUIET_FAILURES = 3;

/** The client's own requests to the REST API, those that no call of the app makes. */
export class Background {
  constructor(
    private readonly api: Api,
    private readonly connection: Pick<Connection, "online" | "pause">,
    private readonly onError: (error: unknown) => void,
  ) {}

  /**
   * Returns the answer, however long it takes. Throws an error that waiting cannot fix. Throws OFFLINE when the
   * connection is lost; the next connection requests everything again.
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
