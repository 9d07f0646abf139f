import { ChatClient, ChatError } from "@chatserver/client";
import { Value } from "./observe.js";
import { tokenOf, type Person, type Place } from "./people.js";
import type { Packets } from "./packets.js";
import { Wire } from "./wire.js";
import { inWords } from "./words.js";

/** A signed-in person, with a client. */
export class Session {
  readonly chat: ChatClient;
  readonly wire: Wire;
  readonly problem = new Value<string | null>(null);

  constructor(
    readonly me: Person,
    readonly place: Place,
    packets: Packets,
  ) {
    this.wire = new Wire((direction, packet) => packets.add(this.firstNameOf(me.id), direction, packet));
    this.chat = new ChatClient({
      url: `${location.protocol}//${location.hostname}:${place.socketsPort}`,
      api: "/api",
      getToken: () => tokenOf(me),
      socket: { transports: [this.wire.transport] },
      onError: (error) => this.#trouble(error),
    });
  }

  nameOf(userId: string): string {
    return this.place.people.find((person) => person.id === userId)?.name ?? userId;
  }

  firstNameOf(userId: string): string {
    return this.nameOf(userId).split(" ")[0] || userId;
  }

  /** Run the work, and show its error in the pane. */
  attempt(work: () => Promise<unknown>): void {
    this.problem.set(null);
    work().catch((error: unknown) => this.#say(error));
  }

  /** Repair the line and reconnect immediately, as when a browser reports that the network is back. */
  mend(): void {
    this.wire.mend();
    this.chat.close(); // An attempt may be in progress on the cut line.
    this.chat.connect();
  }

  #trouble(error: unknown): void {
    // The state of the connection shows this already.
    if (error instanceof ChatError && error.code === "OFFLINE" && this.wire.isCut.snapshot()) return;
    this.#say(error);
  }

  #say(error: unknown): void {
    this.problem.set(error instanceof Error ? inWords(error) : String(error));
  }
}
