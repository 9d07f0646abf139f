"""Routes of read marks."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import OneConversation
from ...chat.messages import OneMessage
from ...chat.read_state.receipts import ReadUpTo
from ...errors import Conflict, NotFound
from ..requests.conversations import OfConversation
from ..requests.messages import OfMessage, ReadConversation
from ..responses import messages as answers
from ..route import Route


async def read_message(chat: Chat, user_id: str, asked: OneMessage) -> Any:
    """Mark one message as read."""
    return await chat.receipts.read_message(user_id, asked.message_id)


async def readers(chat: Chat, user_id: str, asked: OneMessage) -> Any:
    """List the participants who have read a message, and when."""
    return await chat.receipts.readers(user_id, asked.message_id)


async def read_conversation(chat: Chat, user_id: str, asked: ReadUpTo) -> Any:
    """Mark all messages up to a given message as read. Default: the newest message."""
    return await chat.receipts.read_conversation(user_id, asked)


async def unread(chat: Chat, user_id: str, asked: OneConversation) -> Any:
    """Count the messages of others that the caller has not read."""
    return await chat.receipts.unread(user_id, asked.conversation_id)


_MESSAGE = "/api/messages/{messageId}/read"
_CONVERSATION = "/api/conversations/{conversationId}"

_GONE = (NotFound,)

ROUTES = [
    Route(
        "PUT",
        _MESSAGE,
        OfMessage,
        read_message,
        answers.MessageRead,
        refuses=(NotFound, Conflict),
    ),
    Route("GET", _MESSAGE, OfMessage, readers, answers.Readers, refuses=_GONE),
    Route(
        "PUT",
        _CONVERSATION + "/read",
        ReadConversation,
        read_conversation,
        answers.ConversationRead,
        refuses=(NotFound, Conflict),
    ),
    Route(
        "GET",
        _CONVERSATION + "/unread-count",
        OfConversation,
        unread,
        answers.UnreadCount,
        refuses=_GONE,
    ),
]
