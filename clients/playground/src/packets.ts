import { Value } from "./observe.js";

export interface Packet {
  readonly key: number;
  readonly at: Date;
  readonly who: string;
  readonly direction: "up" | "down";
  readonly name: string;
  readonly raw: string;
}

const KEPT = 300;
const ENGINE = ["open", "close", "ping", "pong", "message", "upgrade", "noop"];
const SOCKET = ["connect", "disconnect", "event", "ack", "refused"];

/** The packets of both people's connections, the newest last. */
export class Packets extends Value<readonly Packet[]> {
  #count = 0;

  constructor() {
    super([]);
  }

  add(who: string, direction: "up" | "down", passed: string): void {
    const [name, raw] = [nameOf(passed), withoutToken(passed)];
    const packet = { key: ++this.#count, at: new Date(), who, direction, name, raw };
    this.set([...this.snapshot().slice(1 - KEPT), packet]);
  }

  clear(): void {
    this.set([]);
  }
}

/** Returns the name of an event, or the type of any other packet. */
export function nameOf(raw: string): string {
  const engine = ENGINE[Number(raw[0])] ?? "?";
  if (engine !== "message") return engine;
  const socket = SOCKET[Number(raw[1])] ?? "?";
  return (socket === "event" && /^\d*\["([^"]*)"/.exec(raw.slice(2))?.[1]) || socket;
}

/** A screenshot of the page, for instance in a bug report, must not reveal a token. */
function withoutToken(raw: string): string {
  const hasOne = raw.startsWith("40") || /^42\d*\["auth:refresh"/.test(raw);
  return hasOne ? raw.replace(/"token":"[^"]*"/, '"token":"…"') : raw;
}
