"""Every event that a client can send."""

from __future__ import annotations

from ...realtime.rooms.rooms import Rooms
from ..auth import Tokens
from . import connection_events, messages, reactions, receipts, typing_events
from .event import ClientEvent
from .token_expiry import Expiry


def rows(rooms: Rooms, tokens: Tokens, expiry: Expiry) -> list[ClientEvent]:
    return [
        *messages.EVENTS,
        *reactions.EVENTS,
        *receipts.EVENTS,
        *typing_events.EVENTS,
        *connection_events.events(rooms, tokens, expiry),
    ]
