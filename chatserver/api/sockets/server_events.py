"""Every event that a client can receive."""

from __future__ import annotations

from collections.abc import Sequence

from ..responses import conversations, messages, users
from ..responses.response import ServerEvent

SERVER_EVENTS: Sequence[ServerEvent] = [
    *users.CONNECTION_EVENTS,
    *messages.SERVER_EVENTS,
    *users.SERVER_EVENTS,
    *conversations.SERVER_EVENTS,
]
