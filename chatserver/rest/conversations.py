"""Routes of conversations and their participants."""

from __future__ import annotations

from typing import Any

from ..chat.chat import Chat
from ..chat.conversations import Created
from ..http import Reply
from ..limits import Rate
from ..requests.conversations import (
    AddParticipants,
    ChangeRole,
    ConversationEdit,
    CreateConversation,
    DirectWith,
    EditConversation,
    ListConversations,
    NewConversation,
    NewParticipants,
    OfConversation,
    OfParticipant,
    OneConversation,
    OneParticipant,
    PageOfConversations,
    Peers,
    PrivateWith,
    RoleChange,
)
from .route import Route


def _created(created: Created) -> Reply:
    return Reply(201 if created.is_new else 200, created.view)


async def create(chat: Chat, user_id: str, new: NewConversation) -> Any:
    return _created(await chat.conversations.create(user_id, new))


async def direct(chat: Chat, user_id: str, peers: Peers) -> Any:
    return _created(await chat.conversations.direct(user_id, peers.user_ids))


async def private(chat: Chat, user_id: str, peers: Peers) -> Any:
    return _created(await chat.conversations.private(user_id, peers.user_ids))


async def own(chat: Chat, user_id: str, asked: PageOfConversations) -> Any:
    items, cursor = await chat.conversations.own(user_id, asked)
    return {"items": items, "nextCursor": cursor}


async def get(chat: Chat, user_id: str, one: OneConversation) -> Any:
    return await chat.conversations.get(user_id, one.conversation_id)


async def edit(chat: Chat, user_id: str, edit: ConversationEdit) -> Any:
    return await chat.conversations.edit(user_id, edit)


async def delete(chat: Chat, user_id: str, one: OneConversation) -> Any:
    await chat.conversations.delete(user_id, one.conversation_id)
    return Reply(204)


async def add(chat: Chat, user_id: str, new: NewParticipants) -> Any:
    return await chat.participants.add(user_id, new)


async def change_role(chat: Chat, user_id: str, change: RoleChange) -> Any:
    return await chat.participants.change_role(user_id, change)


async def remove(chat: Chat, user_id: str, one: OneParticipant) -> Any:
    await chat.participants.remove(user_id, one.conversation_id, one.user_id)
    return Reply(204)


_ALL = "/api/conversations"
_ONE = _ALL + "/{conversationId}"
_CREATED = "201 (200 when it exists) the conversation"

ROUTES = [
    Route("POST", _ALL, CreateConversation, create, _CREATED, Rate(10)),
    Route("POST", _ALL + "/direct", DirectWith, direct, _CREATED, Rate(10)),
    Route("POST", _ALL + "/private", PrivateWith, private, _CREATED, Rate(10)),
    Route("GET", _ALL, ListConversations, own, "`{items, nextCursor}`"),
    Route("GET", _ONE, OfConversation, get, "the conversation"),
    Route("PATCH", _ONE, EditConversation, edit, "the conversation", Rate(10)),
    Route("DELETE", _ONE, OfConversation, delete, "204", Rate(10)),
    Route("POST", _ONE + "/participants", AddParticipants, add, "the conversation", Rate(10)),
    Route(
        "PATCH",
        _ONE + "/participants/{userId}",
        ChangeRole,
        change_role,
        "`{userId, role, joinedAt, lastReadSeq}`",
        Rate(10),
    ),
    Route("DELETE", _ONE + "/participants/{userId}", OfParticipant, remove, "204", Rate(10)),
]
