"""Every event that a client can receive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..responses import conversations, messages, users
from ..responses.response import Answer


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event that the server sends. `to`: the sockets that receive it."""

    name: str
    payload: type[Answer]
    to: str


_ALL = "the conversation"
_CONTACTS = "all users who share a conversation with the user, each socket once"

SERVER_EVENTS: Sequence[ServerEvent] = [
    ServerEvent("connected", users.Connected, "this socket, once it is in its rooms"),
    ServerEvent("error", users.FailedResponse, "this socket"),
    ServerEvent(
        "message:new", messages.MessageResponse, _ALL + ", including all devices of the sender"
    ),
    ServerEvent("message:updated", messages.MessageUpdated, _ALL),
    ServerEvent(
        "message:deleted",
        messages.MessageDeleted,
        _ALL + "; with the scope `self`, only the caller's devices",
    ),
    ServerEvent("reaction:added", messages.ReactionChanged, _ALL),
    ServerEvent("reaction:removed", messages.ReactionChanged, _ALL),
    ServerEvent("message:read", messages.MessageRead, _ALL),
    ServerEvent("conversation:read", messages.ConversationRead, _ALL),
    ServerEvent("user:typing", users.Typing, _ALL + " except the sending socket"),
    ServerEvent("user:recording", users.Recording, _ALL + " except the sending socket"),
    ServerEvent("user:online", users.Online, _CONTACTS),
    ServerEvent("user:offline", users.Offline, _CONTACTS),
    ServerEvent("conversation:new", conversations.Conversation, "all participants, on creation"),
    ServerEvent("conversation:joined", conversations.Conversation, "a user who was added later"),
    ServerEvent(
        "conversation:removed",
        conversations.OneRoom,
        "a user who was removed; all participants, on deletion",
    ),
    ServerEvent("conversation:updated", conversations.Conversation, _ALL),
    ServerEvent("participant:added", conversations.ParticipantChanged, _ALL),
    ServerEvent("participant:removed", conversations.ParticipantChanged, _ALL),
    ServerEvent("messages:sync", messages.SyncedResponse, "this socket, if it gave no callback"),
    ServerEvent("pong", users.Now, "this socket, if it gave no callback"),
]
