"""Events about reactions."""

from __future__ import annotations

from typing import Any

from ..chat.chat import Chat
from ..limits import Rate
from ..realtime import Connection
from ..requests.messages import React, Reaction
from .event import Event


async def add(chat: Chat, connection: Connection, reaction: Reaction) -> Any:
    return await chat.reactions.add(connection.user_id, reaction)


async def remove(chat: Chat, connection: Connection, reaction: Reaction) -> Any:
    return await chat.reactions.remove(connection.user_id, reaction)


_ANSWERS = "`{messageId, conversationId, emoji, userId, totalCount}`"

EVENTS = [
    Event("reaction:add", React, add, Rate(20), _ANSWERS),
    Event("reaction:remove", React, remove, Rate(20), _ANSWERS),
]
