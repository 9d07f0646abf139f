"""Operations on presence."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.presence.conversation_presence import PageOfPresence
from ...chat.users import OneUser
from ...errors import NotFound
from ...realtime import Connection
from ..rate_limits import Cost, Rate
from ..requests.conversations import OtherUsers
from ..requests.users import ListPresence, NoPresenceOf, OfUser, PresenceOf
from ..responses import users as answers
from ..responses.response import NothingResponse
from .operation import Caller, Event, Operation, Route


async def of_user(chat: Chat, caller: Caller, asked: OneUser) -> Any:
    """Get the presence of a user. A user with no conversation in common appears as never seen."""
    return await chat.presence.of_one(caller.user_id, asked.user_id)


async def of_conversation(chat: Chat, caller: Caller, asked: PageOfPresence) -> Any:
    """List the presence of the participants of a conversation, and count those who are online. Online users come first.
    In a large conversation the answer may be 10 s old."""
    items, cursor, online = await chat.conversation_presence.page(caller.user_id, asked)
    return {"items": items, "nextCursor": cursor, "onlineCount": online}


async def of_many(chat: Chat, caller: Caller, others: OtherUsers) -> Any:
    """Get the presence of several users."""
    return {"items": await chat.presence.of(caller.user_id, others.user_ids)}


async def subscribe(chat: Chat, connection: Connection, others: OtherUsers) -> Any:
    """Receive `user:online` and `user:offline` of these users on this socket. At most 1,000 users per socket. Users with
    no conversation in common appear as never seen, and are not subscribed to."""
    return {"items": await chat.presence_subscriptions.subscribe(connection, others.user_ids)}


def unsubscribe(chat: Chat, connection: Connection, others: OtherUsers) -> Any:
    """End subscriptions of this socket. In small conversations the events of participants still arrive."""
    chat.presence_subscriptions.unsubscribe(connection, others.user_ids)
    return {}


_PUSHED = "Sockets receive `user:online` and `user:offline`."
_SOCKET = "A subscription belongs to the socket, and ends with it."

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
        ListPresence,
        of_conversation,
        answers.PresencePage,
        route=Route("GET", "/api/conversations/{conversationId}/presence"),
        only=_PUSHED,
        refuses=(NotFound,),
        cost=Cost("limit", 100),
    ),
    Operation(
        "presence.of_many",
        PresenceOf,
        of_many,
        answers.Presences,
        route=Route("POST", "/api/presence/batch"),
        only=_PUSHED,
        cost=Cost("user_ids", 100),
    ),
    Operation(
        "presence.subscribe",
        PresenceOf,
        subscribe,
        answers.Presences,
        event=Event("presence:subscribe", Rate(20)),
        only=_SOCKET,
        announces=("user:online", "user:offline"),
        cost=Cost("user_ids", 100),
        ends_in_time=True,
    ),
    Operation(
        "presence.unsubscribe",
        NoPresenceOf,
        unsubscribe,
        NothingResponse,
        event=Event("presence:unsubscribe", Rate(20)),
        only=_SOCKET,
        cost=Cost("user_ids", 500),
    ),
)
