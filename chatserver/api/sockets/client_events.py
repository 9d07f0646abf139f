"""Every event that a client can send, made from the operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...realtime.rooms.rooms import Rooms
from ..auth import Tokens
from ..operations.operation import Event, Handler, Operation
from ..operations.table import FOR_USERS
from ..rate_limits import Rate
from ..requests.schema import Request
from .connection_operations import operations
from .token_expiry import Expiry


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """An operation in the form in which it is used for each packet."""

    name: str
    request: type[Request]
    handler: Handler
    present: Callable[[Any], Any] | None
    limit: Rate
    reply: str | None
    ends_in_time: bool
    takes_turn: bool
    """True if the handler is a coroutine function: it starts when all earlier events have ended."""


def socket_operations(
    rooms: Rooms, tokens: Tokens, expiry: Expiry
) -> list[tuple[Event, Operation]]:
    """Returns the operations that have an event, each with it."""
    every = [*FOR_USERS, *operations(rooms, tokens, expiry)]
    return [(event, operation) for operation in every if (event := operation.event) is not None]


def client_events(rooms: Rooms, tokens: Tokens, expiry: Expiry) -> dict[str, ClientEvent]:
    """Returns the events by name."""
    return {
        event.name: ClientEvent(
            event.name,
            operation.request,
            operation.handler,
            operation.present,
            event.limit,
            event.reply,
            operation.ends_in_time,
            inspect.iscoroutinefunction(operation.handler),
        )
        for event, operation in socket_operations(rooms, tokens, expiry)
    }
