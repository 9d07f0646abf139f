"""Events about reactions."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.reactions import Reaction
from ...errors import Conflict, NotFound
from ...realtime import Connection
from ..rate_limits import Rate
from ..requests.messages import React
from ..responses.messages import Reacted
from .event import ClientEvent


async def add(chat: Chat, connection: Connection, reaction: Reaction) -> Any:
    """Add a reaction. Adding it again changes nothing."""
    return await chat.reactions.add(connection.user_id, reaction)


async def remove(chat: Chat, connection: Connection, reaction: Reaction) -> Any:
    """Remove the caller's reaction."""
    return await chat.reactions.remove(connection.user_id, reaction)


EVENTS = [
    ClientEvent("reaction:add", React, add, Rate(20), Reacted, (NotFound, Conflict)),
    ClientEvent("reaction:remove", React, remove, Rate(20), Reacted, (NotFound,)),
]
