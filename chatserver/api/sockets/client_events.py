"""Every event that a client can send, made from the operations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...chat.chat import Chat
from ...realtime import Connection
from ...realtime.rooms.rooms import Rooms
from ..auth import Tokens
from ..operations.operation import Event, Handler, Operation
from ..operations.table import FOR_USERS
from ..rate_limits import Cost, Limits, Rate
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
    cost: Cost | None
    recurs: bool
    """See Request."""
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


def client_events(
    rooms: Rooms, tokens: Tokens, expiry: Expiry, limits: Limits
) -> dict[str, ClientEvent]:
    """Returns the events by name."""
    return {
        event.name: ClientEvent(
            event.name,
            operation.request,
            _weighed(event, operation.handler, limits) if operation.weighs else operation.handler,
            operation.present,
            event.limit,
            operation.cost,
            operation.request.recurs,
            event.reply,
            operation.ends_in_time,
            inspect.iscoroutinefunction(operation.handler),
        )
        for event, operation in socket_operations(rooms, tokens, expiry)
    }


def _weighed(event: Event, handler: Handler, limits: Limits) -> Handler:
    async def handle(chat: Chat, connection: Connection, request: Any) -> Any:
        answer = await handler(chat, connection, request)
        return limits.weigh(connection.user_id, event.name, event.limit, answer)

    return handle
