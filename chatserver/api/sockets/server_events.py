"""Every event that a client may hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..responses import conversations, messages, users
from ..responses.response import Answer


@dataclass(frozen=True, slots=True)
class Heard:
    """`to`: which sockets hear it."""

    name: str
    payload: type[Answer]
    to: str


_ALL = "the conversation"
_NEIGHBOURS = "everyone who shares a conversation with the user, each socket once"

HEARD: Sequence[Heard] = [
    Heard("connected", users.Connected, "this socket, when it is in its rooms"),
    Heard("error", users.FailedResponse, "this socket"),
    Heard("message:new", messages.Message, _ALL + ", with every device of the sender"),
    Heard("message:updated", messages.MessageUpdated, _ALL),
    Heard(
        "message:deleted",
        messages.MessageDeleted,
        _ALL + "; with the scope `self`: the caller's devices",
    ),
    Heard("reaction:added", messages.ReactionChanged, _ALL),
    Heard("reaction:removed", messages.ReactionChanged, _ALL),
    Heard("message:read", messages.MessageRead, _ALL),
    Heard("conversation:read", messages.ConversationRead, _ALL),
    Heard("user:typing", users.Typing, _ALL + " but the sending socket"),
    Heard("user:recording", users.Recording, _ALL + " but the sending socket"),
    Heard("user:online", users.Online, _NEIGHBOURS),
    Heard("user:offline", users.Offline, _NEIGHBOURS),
    Heard("conversation:new", conversations.Conversation, "its participants, on creation"),
    Heard("conversation:joined", conversations.Conversation, "a user who was added later"),
    Heard(
        "conversation:removed", conversations.OneRoom, "a user who was removed; all, on deletion"
    ),
    Heard("conversation:updated", conversations.Conversation, _ALL),
    Heard("participant:added", conversations.ParticipantChanged, _ALL),
    Heard("participant:removed", conversations.ParticipantChanged, _ALL),
    Heard("messages:sync", messages.Synced, "this socket, which asked without a callback"),
    Heard("pong", users.Now, "this socket, which asked without a callback"),
]
