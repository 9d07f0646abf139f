import { WebSocket as WebSocketTransport } from "socket.io-client";
import { Value } from "./observe.js";

/** The line between one person's client and the server. It can be cut, and it reports each packet. */
export class Wire {
  readonly isCut = new Value(false);
  readonly transport: typeof WebSocketTransport;
  #socket: { close(): void } | null = null;

  constructor(tell: (direction: "up" | "down", packet: string) => void) {
    const wire = this;
    this.transport = class extends WebSocketTransport {
      override createSocket(...how: Parameters<WebSocketTransport["createSocket"]>): unknown {
        if (wire.isCut.snapshot()) return new DeadLine();
        return (wire.#socket = super.createSocket(...how));
      }

      override doWrite(...[packet, data]: Parameters<WebSocketTransport["doWrite"]>): void {
        tell("up", String(data));
        super.doWrite(packet, data);
      }

      protected override onData(data: Parameters<WebSocketTransport["doWrite"]>[1]): void {
        tell("down", String(data));
        super.onData(data);
      }
    };
  }

  cut(): void {
    this.isCut.set(true);
    this.#socket?.close();
  }

  mend(): void {
    this.isCut.set(false);
  }
}

/** Stands in for a WebSocket without a network. Like that it fails a moment later, when it has listeners. */
class DeadLine {
  binaryType = "";
  onopen: (() => void) | null = null;
  onmessage: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onerror: ((error: Event) => void) | null = null;

  constructor() {
    setTimeout(() => this.onerror?.(new Event("error")), 100);
  }

  send(): void {
    throw new TypeError("The line is cut.");
  }

  close(): void {
    this.onerror = null;
  }
}
