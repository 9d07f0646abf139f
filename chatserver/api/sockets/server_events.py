"""Every event that a client may hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..responses import conversations, messages, users
from ..responses.response import Answer


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """A row of what clients may hear. `to`: which sockets hear it."""

    name: str
    payload: type[Answer]
    to: str


_ALL = "the conversation"
_CONTACTS = "everyone who shares a conversation with the user, each socket once"

SERVER_EVENTS: Sequence[ServerEvent] = [
    ServerEvent("connected", users.Connected, "this socket, when it is in its rooms"),
    ServerEvent("error", users.FailedResponse, "this socket"),
    ServerEvent(
        "message:new", messages.MessageResponse, _ALL + ", with every device of the sender"
    ),
    ServerEvent("message:updated", messages.MessageUpdated, _ALL),
    ServerEvent(
        "message:deleted",
        messages.MessageDeleted,
        _ALL + "; with the scope `self`: the caller's devices",
    ),
    ServerEvent("reaction:added", messages.ReactionChanged, _ALL),
    ServerEvent("reaction:removed", messages.ReactionChanged, _ALL),
    ServerEvent("message:read", messages.MessageRead, _ALL),
    ServerEvent("conversation:read", messages.ConversationRead, _ALL),
    ServerEvent("user:typing", users.Typing, _ALL + " but the sending socket"),
    ServerEvent("user:recording", users.Recording, _ALL + " but the sending socket"),
    ServerEvent("user:online", users.Online, _CONTACTS),
    ServerEvent("user:offline", users.Offline, _CONTACTS),
    ServerEvent("conversation:new", conversations.Conversation, "its participants, on creation"),
    ServerEvent("conversation:joined", conversations.Conversation, "a user who was added later"),
    ServerEvent(
        "conversation:removed", conversations.OneRoom, "a user who was removed; all, on deletion"
    ),
    ServerEvent("conversation:updated", conversations.Conversation, _ALL),
    ServerEvent("participant:added", conversations.ParticipantChanged, _ALL),
    ServerEvent("participant:removed", conversations.ParticipantChanged, _ALL),
    ServerEvent(
        "messages:sync", messages.SyncedResponse, "this socket, which asked without a callback"
    ),
    ServerEvent("pong", users.Now, "this socket, which asked without a callback"),
]
