"""Routes of conversations and their participants."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import (
    ConversationEdit,
    Created,
    NewConversation,
    OneConversation,
    PageOfConversations,
)
from ...chat.participants import NewParticipants, OneParticipant, RoleChange
from ...errors import Conflict, NotFound
from ..http import Reply
from ..rate_limits import Rate
from ..requests.conversations import (
    AddParticipants,
    ChangeRole,
    CreateConversation,
    DirectWith,
    EditConversation,
    ListConversations,
    OfConversation,
    OfParticipant,
    OtherUsers,
    PrivateWith,
)
from ..responses import conversations as answers
from ..route import Route


def _created(created: Created) -> Reply:
    return Reply(201 if created.is_new else 200, created.view)


async def create(chat: Chat, user_id: str, new: NewConversation) -> Any:
    """Create a conversation. An existing direct conversation is returned instead."""
    return _created(await chat.conversations.create(user_id, new))


async def direct(chat: Chat, user_id: str, others: OtherUsers) -> Any:
    """Get the direct conversation with a user. It is created if there is none."""
    return _created(await chat.conversations.direct(user_id, others.user_ids))


async def private(chat: Chat, user_id: str, others: OtherUsers) -> Any:
    """Get the group of the caller and exactly these users. It is created if there is none."""
    return _created(await chat.conversations.private(user_id, others.user_ids))


async def own(chat: Chat, user_id: str, asked: PageOfConversations) -> Any:
    """List the caller's conversations, most recently active first."""
    items, cursor = await chat.conversations.own(user_id, asked)
    return {"items": items, "nextCursor": cursor}


async def get(chat: Chat, user_id: str, asked: OneConversation) -> Any:
    """Get a conversation."""
    return await chat.conversations.get(user_id, asked.conversation_id)


async def edit(chat: Chat, user_id: str, edit: ConversationEdit) -> Any:
    """Change the name, avatar or metadata of a conversation. Admins only."""
    return await chat.conversations.edit(user_id, edit)


async def delete(chat: Chat, user_id: str, asked: OneConversation) -> Any:
    """Delete a conversation for all participants. Owner only."""
    await chat.conversations.delete(user_id, asked.conversation_id)
    return Reply(204)


async def add(chat: Chat, user_id: str, new: NewParticipants) -> Any:
    """Add participants. Admins only; only the owner can add admins. Existing participants keep their role."""
    return await chat.participants.add(user_id, new)


async def change_role(chat: Chat, user_id: str, change: RoleChange) -> Any:
    """Change a participant's role. Owner only. Making another user the owner makes the caller an admin."""
    return await chat.participants.change_role(user_id, change)


async def remove(chat: Chat, user_id: str, asked: OneParticipant) -> Any:
    """Remove a participant (admins only), or leave the conversation."""
    await chat.participants.remove(user_id, asked.conversation_id, asked.user_id)
    return Reply(204)


_ALL = "/api/conversations"
_ONE = _ALL + "/{conversationId}"
_GONE = (NotFound,)

ROUTES = [
    Route(
        "POST",
        _ALL,
        CreateConversation,
        create,
        answers.Conversation,
        Rate(10),
        known="The direct conversation already exists.",
        refuses=(Conflict,),
    ),
    Route(
        "POST",
        _ALL + "/direct",
        DirectWith,
        direct,
        answers.Conversation,
        Rate(10),
        known="It already exists.",
        refuses=(Conflict,),
    ),
    Route(
        "POST",
        _ALL + "/private",
        PrivateWith,
        private,
        answers.Conversation,
        Rate(10),
        known="It already exists.",
        refuses=(Conflict,),
    ),
    Route("GET", _ALL, ListConversations, own, answers.ConversationPage),
    Route("GET", _ONE, OfConversation, get, answers.Conversation, refuses=_GONE),
    Route("PATCH", _ONE, EditConversation, edit, answers.Conversation, Rate(10), refuses=_GONE),
    Route("DELETE", _ONE, OfConversation, delete, None, Rate(10), refuses=_GONE),
    Route(
        "POST",
        _ONE + "/participants",
        AddParticipants,
        add,
        answers.Conversation,
        Rate(10),
        refuses=_GONE,
    ),
    Route(
        "PATCH",
        _ONE + "/participants/{userId}",
        ChangeRole,
        change_role,
        answers.Participant,
        Rate(10),
        refuses=(NotFound, Conflict),
    ),
    Route(
        "DELETE",
        _ONE + "/participants/{userId}",
        OfParticipant,
        remove,
        None,
        Rate(10),
        refuses=_GONE,
    ),
]
