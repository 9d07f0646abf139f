"""Operations on the socket itself: its rooms and its token. They need parts of the socket door."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import OneConversation
from ...clock import from_unix, iso
from ...errors import Forbidden, NotFound, TokenExpired, Unauthenticated
from ...realtime import Connection
from ...realtime.rooms.rooms import Rooms
from ..auth import Tokens
from ..operations.operation import Event, Operation
from ..rate_limits import Rate
from ..requests.conversations import OfConversation
from ..requests.users import FreshToken, RefreshToken
from ..responses.conversations import OneRoom
from ..responses.users import FreshUntil
from .token_expiry import Expiry


def operations(rooms: Rooms, tokens: Tokens, expiry: Expiry) -> list[Operation]:
    def join(chat: Chat, connection: Connection, asked: OneConversation) -> Any:
        """Receive the events of a conversation: again, after `room:leave`, or at all, if `connected` had
        `roomsTruncated`."""
        room = asked.conversation_id
        if not rooms.hosts(connection.user_id, room):
            return enter(chat, connection, room)
        rooms.join(connection, room)
        return {"conversationId": room}

    async def enter(chat: Chat, connection: Connection, room: str) -> Any:
        await chat.members.require(connection.user_id, room)
        arrival = rooms.arriving(connection.user_id)
        try:
            await rooms.prepare([room])
            # Again: after `prepare` no change is missed, but one before that may have been.
            await chat.members.arrive_in(connection.user_id, room)
        except BaseException:  # refused, failed or cancelled
            rooms.abort_arrival(connection.user_id, arrival)
            raise
        if not rooms.enter_one(connection, room, arrival):
            raise NotFound()
        return {"conversationId": room}

    def leave(chat: Chat, connection: Connection, asked: OneConversation) -> Any:
        """Stop receiving the events of a conversation on this socket. The user remains a participant."""
        room = asked.conversation_id
        if not rooms.hosts(connection.user_id, room):
            return stay_out(chat, connection, room)
        rooms.part(connection, room)
        return {"conversationId": room}

    async def stay_out(chat: Chat, connection: Connection, room: str) -> Any:
        await chat.members.require(connection.user_id, room)
        return {"conversationId": room}

    async def refresh(chat: Chat, connection: Connection, fresh: FreshToken) -> Any:
        """Replace the socket's token, to stay connected after the old one expires."""
        identity = await tokens.verify(fresh.token)
        if identity.user_id != connection.user_id:
            raise Forbidden("This token belongs to another user.")
        expiry.renew(connection, identity.expires_at)
        return {"expiresAt": iso(from_unix(identity.expires_at))}

    only = "It is about the socket itself."
    return [
        Operation(
            "connection.join",
            OfConversation,
            join,
            OneRoom,
            event=Event("room:join", Rate(50)),
            only=only,
            refuses=(NotFound,),
        ),
        Operation(
            "connection.leave",
            OfConversation,
            leave,
            OneRoom,
            event=Event("room:leave", Rate(50)),
            only=only,
            refuses=(NotFound,),
        ),
        Operation(
            "connection.refresh",
            RefreshToken,
            refresh,
            FreshUntil,
            event=Event("auth:refresh", Rate(5, per=10)),
            only=only,
            refuses=(Unauthenticated, TokenExpired, Forbidden),
        ),
    ]
