"""Operations on the user's activity: typing, recording, being active. They concern one socket, so only sockets
have them."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import OneConversation
from ...chat.signals import Indicator
from ...clock import iso, now
from ...errors import NotFound
from ...realtime import Connection
from ..rate_limits import Rate
from ..requests.conversations import OfConversation
from ..requests.users import EmptyPayload, NoPayload
from ..responses.response import NothingResponse
from ..responses.users import Now
from .operation import Event, Handler, Operation


def _starting(kind: Indicator) -> Handler:
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


def _stopping(kind: Indicator) -> Handler:
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


_ONLY = "An indicator belongs to the socket that shows it, and ends with it."
_SOCKET = "It is about the socket itself."

OPERATIONS = (
    *(
        Operation(
            f"activity.{verb}_{kind}",
            OfConversation,
            handler,
            NothingResponse,
            event=Event(f"{kind}:{verb}", Rate(10)),
            only=_ONLY,
            refuses=(NotFound,),
            announces=(f"user:{kind}",),
        )
        for kind in ("typing", "recording")
        for verb, handler in (("start", _starting(kind)), ("stop", _stopping(kind)))
    ),
    Operation(
        "activity.keep_active",
        NoPayload,
        keep_active,
        Now,
        event=Event("activity:ping", Rate(5)),
        only=_SOCKET,
    ),
    Operation(
        "activity.ping",
        NoPayload,
        ping,
        Now,
        event=Event("ping", Rate(10), reply="pong"),
        only=_SOCKET,
    ),
)
