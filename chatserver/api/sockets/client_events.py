"""Every event that a client can send, made from the operations."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from ...realtime.rooms.rooms import Rooms
from ..auth import Tokens
from ..operations.operation import Event, Handler, Made, Operation
from ..operations.table import FOR_USERS
from ..rate_limits import Rate
from ..requests.parse import Request
from .connection_operations import operations
from .token_expiry import Expiry


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """An operation in the form in which the socket door uses it for each packet."""

    name: str
    request: type[Request]
    handler: Handler
    limit: Rate
    reply: str | None
    takes_turn: bool
    """True if the handler is a coroutine function: it starts when all earlier events have ended."""
    operation: Operation

    def data(self, result: Any) -> Any:
        """Returns the `data` of the acknowledgement for a handler's result."""
        present = self.operation.present
        response = present(result) if present is not None else result
        return response.data if type(response) is Made else response


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
            event.limit,
            event.reply,
            inspect.iscoroutinefunction(operation.handler),
            operation,
        )
        for event, operation in socket_operations(rooms, tokens, expiry)
    }
