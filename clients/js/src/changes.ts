import type { Connection } from "./connection.js";
import type { Answers, Message } from "./protocol.js";

type Told = "message:edit" | "message:delete" | "reaction:add" | "reaction:remove";

/**
 * Edits, deletions and reactions. Those of one message are sent one after another. Otherwise, when a user takes
 * back a reaction immediately, the removal could overtake the addition that waits for the rate limit.
 */
export class Changes {
  #last = new Map<string, Promise<unknown>>();

  constructor(private readonly connection: Connection) {}

  edit(messageId: string, content: string): Promise<Message> {
    return this.#inTurn(messageId, () => this.connection.insist("message:edit", { messageId, content }));
  }

  delete(messageId: string, scope: "everyone" | "self"): Promise<Answers["message:delete"]> {
    return this.#inTurn(messageId, () => this.connection.insist("message:delete", { messageId, scope }));
  }

  react(messageId: string, emoji: string): Promise<Answers["reaction:add"]> {
    return this.#inTurn(messageId, () => this.connection.insist("reaction:add", { messageId, emoji }));
  }

  unreact(messageId: string, emoji: string): Promise<Answers["reaction:remove"]> {
    return this.#inTurn(messageId, () => this.connection.insist("reaction:remove", { messageId, emoji }));
  }

  #inTurn<T extends Answers[Told]>(messageId: string, ask: () => Promise<T>): Promise<T> {
    const before = this.#last.get(messageId);
    const answer = before ? before.then(ask, ask) : ask();
    this.#last.set(messageId, answer);
    const done = (): void => {
      if (this.#last.get(messageId) === answer) this.#last.delete(messageId);
    };
    answer.then(done, done);
    return answer;
  }
}
