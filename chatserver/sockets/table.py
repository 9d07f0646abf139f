"""Every event that a client may send."""

from __future__ import annotations

from ..auth import Tokens
from ..realtime.rooms.rooms import Rooms
from . import activity, messages, own, reactions, receipts
from .event import Event
from .expiry import Expiry


def rows(rooms: Rooms, tokens: Tokens, expiry: Expiry) -> list[Event]:
    return [
        *messages.EVENTS,
        *reactions.EVENTS,
        *receipts.EVENTS,
        *activity.EVENTS,
        *own.events(rooms, tokens, expiry),
    ]
