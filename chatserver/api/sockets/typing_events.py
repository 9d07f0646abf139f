"""Events about the user's activity: typing, recording, being active."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import OneConversation
from ...chat.typing_indicators import Kind
from ...clock import iso, now
from ...errors import NotFound
from ...realtime import Connection
from ..rate_limits import Rate
from ..requests.conversations import OfConversation
from ..requests.users import EmptyPayload, NoPayload
from ..responses.response import NothingResponse
from ..responses.users import Now
from .event import ClientEvent, Handler


def _starting(kind: Kind) -> Handler:
    def start(chat: Chat, connection: Connection, asked: OneConversation) -> Any:
        """Show the indicator to the conversation. It ends by itself 6 s after the last start."""
        if chat.members.known(connection.user_id, asked.conversation_id):
            chat.activity.start(connection, connection.user_id, asked.conversation_id, kind)
            return {}
        return ask_and_start(chat, connection, asked)

    async def ask_and_start(chat: Chat, connection: Connection, asked: OneConversation) -> Any:
        # A user who was removed while this node was not in sync is still in its room.
        await chat.members.present(connection.user_id, asked.conversation_id)
        chat.activity.start(connection, connection.user_id, asked.conversation_id, kind)
        return {}

    return start


def _stopping(kind: Kind) -> Handler:
    def stop(chat: Chat, connection: Connection, asked: OneConversation) -> Any:
        """Hide the indicator."""
        chat.activity.stop(connection, connection.user_id, asked.conversation_id, kind)
        return {}

    return stop


def keep_active(chat: Chat, connection: Connection, _: EmptyPayload) -> Any:
    """Report that the user is active. This updates `lastSeen`."""
    chat.presence.active(connection.user_id)
    return {"timestamp": iso(now())}


def ping(chat: Chat, connection: Connection, _: EmptyPayload) -> Any:
    """Check that the server responds."""
    return {"timestamp": iso(now())}


_GONE = (NotFound,)

EVENTS = [
    ClientEvent(
        "typing:start", OfConversation, _starting("typing"), Rate(10), NothingResponse, _GONE
    ),
    ClientEvent(
        "typing:stop", OfConversation, _stopping("typing"), Rate(10), NothingResponse, _GONE
    ),
    ClientEvent(
        "recording:start", OfConversation, _starting("recording"), Rate(10), NothingResponse, _GONE
    ),
    ClientEvent(
        "recording:stop", OfConversation, _stopping("recording"), Rate(10), NothingResponse, _GONE
    ),
    ClientEvent("activity:ping", NoPayload, keep_active, Rate(5), Now),
    ClientEvent("ping", NoPayload, ping, Rate(10), Now, reply="pong"),
]
