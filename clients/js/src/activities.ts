import { Activity } from "./activity.js";
import type { Connection } from "./connection.js";
import type { ServerEvents } from "./protocol.js";

export interface Active {
  /** User ids of others. */
  readonly typing: readonly string[];
  readonly recording: readonly string[];
}

export const NOBODY: Active = { typing: [], recording: [] };

/** What the user does in a conversation beside saying something, and what others do. */
export class Activities {
  readonly typing: Activity;
  readonly recording: Activity;

  constructor(
    connection: Connection,
    conversationId: string,
    private readonly userId: () => string | null,
  ) {
    this.typing = new Activity(connection, "typing", conversationId);
    this.recording = new Activity(connection, "recording", conversationId);
  }

  /** The message is out. */
  said(): void {
    this.typing.ends();
    this.recording.ends();
  }

  /** The connection that knew of it has gone, or the conversation. */
  forget(): void {
    this.typing.forget();
    this.recording.forget();
  }

  /** Who is at it after an event. The same object when nothing has changed. */
  after(active: Active, name: string, payload: unknown): Active {
    switch (name) {
      case "user:typing":
      case "user:recording": {
        const { userId, type, isActive } = payload as ServerEvents["user:typing" | "user:recording"];
        const has = active[type].includes(userId);
        // One's own other devices are told of, too.
        if (has === isActive || userId === this.userId()) return active;
        return { ...active, [type]: isActive ? [...active[type], userId] : without(active[type], userId) };
      }
      case "participant:removed": {
        const { userId } = payload as ServerEvents["participant:removed"];
        const { typing, recording } = active;
        if (!typing.includes(userId) && !recording.includes(userId)) return active;
        return { typing: without(typing, userId), recording: without(recording, userId) };
      }
    }
    return active;
  }
}

const without = (userIds: readonly string[], userId: string): readonly string[] =>
  userIds.filter((id) => id !== userId);
