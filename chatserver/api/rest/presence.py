"""Routes of presence."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import OneConversation
from ...chat.users import OneUser
from ...errors import NotFound
from ..requests.conversations import OfConversation, OtherUsers
from ..requests.users import OfUser, PresenceOf
from ..responses import users as answers
from ..route import Route


async def of_user(chat: Chat, user_id: str, asked: OneUser) -> Any:
    """Get the presence of a user. A user with no conversation in common appears as never seen."""
    return await chat.presence.of_one(user_id, asked.user_id)


async def of_conversation(chat: Chat, user_id: str, asked: OneConversation) -> Any:
    """Get the presence of all participants of a conversation."""
    return {"items": await chat.presence.of_conversation(user_id, asked.conversation_id)}


async def of_many(chat: Chat, user_id: str, others: OtherUsers) -> Any:
    """Get the presence of several users."""
    return {"items": await chat.presence.of(user_id, others.user_ids)}


ROUTES = [
    Route("GET", "/api/users/{userId}/presence", OfUser, of_user, answers.PresenceResponse),
    Route(
        "GET",
        "/api/conversations/{conversationId}/presence",
        OfConversation,
        of_conversation,
        answers.Presences,
        refuses=(NotFound,),
    ),
    Route("POST", "/api/presence/batch", PresenceOf, of_many, answers.Presences),
]
