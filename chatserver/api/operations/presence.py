"""Operations on presence."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import OneConversation
from ...chat.users import OneUser
from ...errors import NotFound
from ..requests.conversations import OfConversation, OtherUsers
from ..requests.users import OfUser, PresenceOf
from ..responses import users as answers
from .operation import Caller, Operation, Route


async def of_user(chat: Chat, caller: Caller, asked: OneUser) -> Any:
    """Get the presence of a user. A user with no conversation in common appears as never seen."""
    return await chat.presence.of_one(caller.user_id, asked.user_id)


async def of_conversation(chat: Chat, caller: Caller, asked: OneConversation) -> Any:
    """Get the presence of all participants of a conversation."""
    return {"items": await chat.presence.of_conversation(caller.user_id, asked.conversation_id)}


async def of_many(chat: Chat, caller: Caller, others: OtherUsers) -> Any:
    """Get the presence of several users."""
    return {"items": await chat.presence.of(caller.user_id, others.user_ids)}


_PUSHED = "Sockets receive `user:online` and `user:offline`."

OPERATIONS = (
    Operation(
        "presence.of_user",
        OfUser,
        of_user,
        answers.PresenceResponse,
        route=Route("GET", "/api/users/{userId}/presence"),
        only=_PUSHED,
    ),
    Operation(
        "presence.of_conversation",
        OfConversation,
        of_conversation,
        answers.Presences,
        route=Route("GET", "/api/conversations/{conversationId}/presence"),
        only=_PUSHED,
        refuses=(NotFound,),
    ),
    Operation(
        "presence.of_many",
        PresenceOf,
        of_many,
        answers.Presences,
        route=Route("POST", "/api/presence/batch"),
        only=_PUSHED,
    ),
)
