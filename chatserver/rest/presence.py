"""Routes of presence."""

from __future__ import annotations

from typing import Any

from ..chat.chat import Chat
from ..requests.conversations import OfConversation, OneConversation, Peers
from ..requests.users import OfUser, OneUser, PresenceOf
from .route import Route


async def of_user(chat: Chat, user_id: str, one: OneUser) -> Any:
    return await chat.presence.of_one(user_id, one.user_id)


async def of_conversation(chat: Chat, user_id: str, one: OneConversation) -> Any:
    return {"items": await chat.presence.of_conversation(user_id, one.conversation_id)}


async def of_many(chat: Chat, user_id: str, peers: Peers) -> Any:
    return {"items": await chat.presence.of(user_id, peers.user_ids)}


_ITEM = "{userId, status: online/offline, lastSeen}"

ROUTES = [
    Route("GET", "/api/users/{userId}/presence", OfUser, of_user, f"`{_ITEM}`"),
    Route(
        "GET",
        "/api/conversations/{conversationId}/presence",
        OfConversation,
        of_conversation,
        f"`{{items: [{_ITEM}]}}`",
    ),
    Route("POST", "/api/presence/batch", PresenceOf, of_many, f"`{{items: [{_ITEM}]}}`"),
]
