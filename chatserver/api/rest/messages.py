"""Routes of messages and reactions."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.messages import MessageDeletion, MessageEdit, NewMessage, OneMessage, PageOfMessages
from ...chat.reactions import Reaction
from ...errors import Conflict, NotFound
from ..http import Reply
from ..rate_limits import Rate
from ..requests.messages import (
    DeleteMessage,
    EditMessage,
    ListMessages,
    OfMessage,
    React,
    SendMessage,
)
from ..responses import messages as answers
from ..route import Route


async def send(chat: Chat, user_id: str, new: NewMessage) -> Any:
    """Send a message. A repeat with the same `clientMessageId` returns the stored message, announced once."""
    outcome = await chat.messages.send(user_id, new)
    return Reply(201 if outcome.entry else 200, outcome.message.json)


async def page(chat: Chat, user_id: str, asked: PageOfMessages) -> Any:
    """Read a page of history in ascending order: the newest page, or that before or after a message or `seq`."""
    page = await chat.messages.page(user_id, asked)
    return {"items": [message.wire() for message in page.messages], "hasMore": page.has_more}


async def get(chat: Chat, user_id: str, asked: OneMessage) -> Any:
    """Get a message."""
    return (await chat.messages.get(user_id, asked.message_id)).json


async def edit(chat: Chat, user_id: str, edit: MessageEdit) -> Any:
    """Edit the text of a message. Sender only."""
    return (await chat.messages.edit(user_id, edit)).json


async def delete(chat: Chat, user_id: str, deletion: MessageDeletion) -> Any:
    """Delete a message for everyone (sender and admins only), or hide it from the caller."""
    return await chat.messages.delete(user_id, deletion)


async def react(chat: Chat, user_id: str, reaction: Reaction) -> Any:
    """Add a reaction. Adding it again changes nothing."""
    return await chat.reactions.add(user_id, reaction)


async def unreact(chat: Chat, user_id: str, reaction: Reaction) -> Any:
    """Remove the caller's reaction."""
    return await chat.reactions.remove(user_id, reaction)


async def reactions(chat: Chat, user_id: str, asked: OneMessage) -> Any:
    """List the reactions to a message."""
    return await chat.reactions.of(user_id, asked.message_id)


_OF_CONVERSATION = "/api/conversations/{conversationId}/messages"
_ONE = "/api/messages/{messageId}"

_GONE = (NotFound,)

ROUTES = [
    Route(
        "POST",
        _OF_CONVERSATION,
        SendMessage,
        send,
        answers.MessageResponse,
        Rate(20),
        known="The message was sent before.",
        refuses=_GONE,
    ),
    Route("GET", _OF_CONVERSATION, ListMessages, page, answers.MessagePageResponse, refuses=_GONE),
    Route("GET", _ONE, OfMessage, get, answers.MessageResponse, refuses=_GONE),
    Route(
        "PATCH",
        _ONE,
        EditMessage,
        edit,
        answers.MessageResponse,
        Rate(10),
        refuses=(NotFound, Conflict),
    ),
    Route("DELETE", _ONE, DeleteMessage, delete, answers.Deletion, Rate(10), refuses=_GONE),
    Route(
        "POST",
        _ONE + "/reactions",
        React,
        react,
        answers.Reacted,
        Rate(20),
        refuses=(NotFound, Conflict),
    ),
    Route(
        "DELETE",
        _ONE + "/reactions/{emoji}",
        React,
        unreact,
        answers.Reacted,
        Rate(20),
        refuses=_GONE,
    ),
    Route(
        "GET", _ONE + "/reactions", OfMessage, reactions, answers.ReactionsResponse, refuses=_GONE
    ),
]
