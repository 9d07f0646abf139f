import { ChatClient, ChatError } from "@chatserver/client";
import { Value } from "./observe.js";
import { tokenOf, type Person, type Place } from "./people.js";
import type { Packets } from "./packets.js";
import { Wire } from "./wire.js";
import { inWords } from "./words.js";

/** One person who is signed in. */
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

  /** Do it, and say what went wrong where the person sees it. */
  attempt(work: () => Promise<unknown>): void {
    this.problem.set(null);
    work().catch((error: unknown) => this.#say(error));
  }

  /** It is tried at once, as when a browser says that the network is back. */
  mend(): void {
    this.wire.mend();
    this.chat.close(); // An attempt may be under way, on the line that was cut.
    this.chat.connect();
  }

  #trouble(error: unknown): void {
    // The state of the connection says that already.
    if (error instanceof ChatError && error.code === "OFFLINE" && this.wire.isCut.snapshot()) return;
    this.#say(error);
  }

  #say(error: unknown): void {
    this.problem.set(error instanceof Error ? inWords(error) : String(error));
  }
}
