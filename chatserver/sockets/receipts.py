"""Events about reading."""

from __future__ import annotations

from typing import Any

from ..chat.chat import Chat
from ..limits import Rate
from ..realtime import Connection
from ..requests.messages import OfMessage, OneMessage, ReadConversation, ReadUpTo
from .event import Event


async def read_message(chat: Chat, connection: Connection, one: OneMessage) -> Any:
    return await chat.receipts.read_message(connection.user_id, one.message_id)


async def read_conversation(chat: Chat, connection: Connection, asked: ReadUpTo) -> Any:
    return await chat.receipts.read_conversation(connection.user_id, asked)


EVENTS = [
    Event(
        "message:read",
        OfMessage,
        read_message,
        Rate(50),
        "`{messageId, conversationId, userId, readAt}`",
    ),
    Event(
        "conversation:read",
        ReadConversation,
        read_conversation,
        Rate(20),
        "`{conversationId, userId, upToMessageId, count, readAt}`",
    ),
]
