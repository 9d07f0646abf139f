"""Routes of reading."""

from __future__ import annotations

from typing import Any

from ..chat.chat import Chat
from ..requests.conversations import OfConversation, OneConversation
from ..requests.messages import OfMessage, OneMessage, ReadConversation, ReadUpTo
from .route import Route


async def read_message(chat: Chat, user_id: str, one: OneMessage) -> Any:
    return await chat.receipts.read_message(user_id, one.message_id)


async def readers(chat: Chat, user_id: str, one: OneMessage) -> Any:
    return await chat.receipts.readers(user_id, one.message_id)


async def read_conversation(chat: Chat, user_id: str, asked: ReadUpTo) -> Any:
    return await chat.receipts.read_conversation(user_id, asked)


async def unread(chat: Chat, user_id: str, one: OneConversation) -> Any:
    return await chat.receipts.unread(user_id, one.conversation_id)


_MESSAGE = "/api/messages/{messageId}/read"
_CONVERSATION = "/api/conversations/{conversationId}"

ROUTES = [
    Route(
        "PUT", _MESSAGE, OfMessage, read_message, "`{messageId, conversationId, userId, readAt}`"
    ),
    Route("GET", _MESSAGE, OfMessage, readers, "`{items: [{userId, readAt}]}`"),
    Route(
        "PUT",
        _CONVERSATION + "/read",
        ReadConversation,
        read_conversation,
        "`{conversationId, userId, upToMessageId, count, readAt}`",
    ),
    Route(
        "GET", _CONVERSATION + "/unread-count", OfConversation, unread, "`{conversationId, count}`"
    ),
]
