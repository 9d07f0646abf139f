"""Operations on read marks."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import OneConversation
from ...chat.messages import OneMessage
from ...chat.read_state.receipts import PageOfReaders, ReadUpTo
from ...errors import Conflict, NotFound
from ..rate_limits import Cost, Rate
from ..requests.conversations import OfConversation
from ..requests.messages import ListReaders, OfMessage, ReadConversation
from ..responses import messages as answers
from .operation import Caller, Event, Operation, Route


async def read_message(chat: Chat, caller: Caller, asked: OneMessage) -> Any:
    """Mark one message as read."""
    return await chat.receipts.read_message(caller.user_id, asked.message_id)


async def readers(chat: Chat, caller: Caller, asked: PageOfReaders) -> Any:
    """List the participants who have read a message, and when."""
    return await chat.receipts.readers(caller.user_id, asked)


async def read_conversation(chat: Chat, caller: Caller, asked: ReadUpTo) -> Any:
    """Mark all messages up to a given message as read. Default: the newest message."""
    return await chat.receipts.read_conversation(caller.user_id, asked)


async def unread(chat: Chat, caller: Caller, asked: OneConversation) -> Any:
    """Count the messages of others that the caller has not read."""
    return await chat.receipts.unread(caller.user_id, asked.conversation_id)


_MESSAGE = "/api/messages/{messageId}/read"
_CONVERSATION = "/api/conversations/{conversationId}"

OPERATIONS = (
    Operation(
        "receipts.read_message",
        OfMessage,
        read_message,
        answers.MessageRead,
        event=Event("message:read", Rate(50)),
        route=Route("PUT", _MESSAGE),
        refuses=(NotFound, Conflict),
        announces=("message:read",),
    ),
    Operation(
        "receipts.readers",
        ListReaders,
        readers,
        answers.ReaderPage,
        route=Route("GET", _MESSAGE),
        only="Sockets receive every read mark.",
        refuses=(NotFound,),
        cost=Cost("limit", 200),
        weighs=True,
    ),
    Operation(
        "receipts.read_conversation",
        ReadConversation,
        read_conversation,
        answers.ConversationRead,
        event=Event("conversation:read", Rate(20)),
        route=Route("PUT", _CONVERSATION + "/read"),
        refuses=(NotFound, Conflict),
        announces=("conversation:read",),
    ),
    Operation(
        "receipts.unread",
        OfConversation,
        unread,
        answers.UnreadCount,
        route=Route("GET", _CONVERSATION + "/unread-count"),
        only="Conversations have their unread count, and clients count on from there.",
        refuses=(NotFound,),
    ),
)
