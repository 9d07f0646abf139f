"""Routes of messages and reactions."""

from __future__ import annotations

from typing import Any

from ..chat.chat import Chat
from ..http import Reply
from ..limits import Rate
from ..requests.messages import (
    DeleteMessage,
    EditMessage,
    ListMessages,
    MessageDeletion,
    MessageEdit,
    NewMessage,
    OfMessage,
    OneMessage,
    PageOfMessages,
    React,
    Reaction,
    SendMessage,
)
from .route import Route


async def send(chat: Chat, user_id: str, new: NewMessage) -> Any:
    outcome = await chat.messages.send(user_id, new)
    return Reply(201 if outcome.entry else 200, outcome.message.json)


async def page(chat: Chat, user_id: str, asked: PageOfMessages) -> Any:
    page = await chat.messages.page(user_id, asked)
    return {"items": [message.wire() for message in page.messages], "hasMore": page.has_more}


async def get(chat: Chat, user_id: str, one: OneMessage) -> Any:
    return (await chat.messages.get(user_id, one.message_id)).json


async def edit(chat: Chat, user_id: str, edit: MessageEdit) -> Any:
    return (await chat.messages.edit(user_id, edit)).json


async def delete(chat: Chat, user_id: str, deletion: MessageDeletion) -> Any:
    return await chat.messages.delete(user_id, deletion)


async def react(chat: Chat, user_id: str, reaction: Reaction) -> Any:
    return await chat.reactions.add(user_id, reaction)


async def unreact(chat: Chat, user_id: str, reaction: Reaction) -> Any:
    return await chat.reactions.remove(user_id, reaction)


async def reactions(chat: Chat, user_id: str, one: OneMessage) -> Any:
    return await chat.reactions.of(user_id, one.message_id)


_OF_CONVERSATION = "/api/conversations/{conversationId}/messages"
_ONE = "/api/messages/{messageId}"

ROUTES = [
    Route(
        "POST", _OF_CONVERSATION, SendMessage, send, "201 (200 for a repeat) the message", Rate(20)
    ),
    Route("GET", _OF_CONVERSATION, ListMessages, page, "`{items, hasMore}`"),
    Route("GET", _ONE, OfMessage, get, "the message"),
    Route("PATCH", _ONE, EditMessage, edit, "the message", Rate(10)),
    Route(
        "DELETE",
        _ONE,
        DeleteMessage,
        delete,
        "`{messageId, conversationId, deletedAt, scope}`",
        Rate(10),
    ),
    Route(
        "POST",
        _ONE + "/reactions",
        React,
        react,
        "`{messageId, conversationId, emoji, userId, totalCount}`",
        Rate(20),
    ),
    Route("DELETE", _ONE + "/reactions/{emoji}", React, unreact, "the same", Rate(20)),
    Route("GET", _ONE + "/reactions", OfMessage, reactions, "`{items: [{emoji, count, userIds}]}`"),
]
