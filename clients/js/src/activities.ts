import { Activity } from "./activity.js";
import type { Connection } from "./connection.js";
import type { ServerEvents } from "./protocol.js";

export interface Active {
  /** Ids of other users. */
  readonly typing: readonly string[];
  readonly recording: readonly string[];
}

export const NOBODY: Active = { typing: [], recording: [] };

/** Typing and recording in one conversation: sends the user's own, and tracks other users'. */
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

  /** The user has sent a message, so both indicators stop. */
  said(): void {
    this.typing.ends();
    this.recording.ends();
  }

  /** The connection is lost, or the conversation closed: forget without telling the server. */
  forget(): void {
    this.typing.forget();
    this.recording.forget();
  }

  /** Returns the active users after an event. The same object if nothing has changed. */
  after(active: Active, name: string, payload: unknown): Active {
    switch (name) {
      case "user:typing":
      case "user:recording": {
        const { userId, type, isActive } = payload as ServerEvents["user:typing" | "user:recording"];
        const has = active[type].includes(userId);
        // Events of the user's other devices arrive as well.
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
