"""Events about read marks."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.messages import OneMessage
from ...chat.read_state.receipts import ReadUpTo
from ...errors import Conflict, NotFound
from ...realtime import Connection
from ..rate_limits import Rate
from ..requests.messages import OfMessage, ReadConversation
from ..responses.messages import ConversationRead, MessageRead
from .event import ClientEvent


async def read_message(chat: Chat, connection: Connection, asked: OneMessage) -> Any:
    """Mark one message as read."""
    return await chat.receipts.read_message(connection.user_id, asked.message_id)


async def read_conversation(chat: Chat, connection: Connection, asked: ReadUpTo) -> Any:
    """Mark all messages up to a given message as read. Default: the newest message."""
    return await chat.receipts.read_conversation(connection.user_id, asked)


_REFUSES = (NotFound, Conflict)

EVENTS = [
    ClientEvent("message:read", OfMessage, read_message, Rate(50), MessageRead, _REFUSES),
    ClientEvent(
        "conversation:read",
        ReadConversation,
        read_conversation,
        Rate(20),
        ConversationRead,
        _REFUSES,
    ),
]
