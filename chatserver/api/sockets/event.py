"""An event is a row: name, payload, handler, limit, response, errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...chat.chat import Chat
from ...errors import ChatError
from ...realtime import Connection
from ..rate_limits import Rate
from ..requests.parse import Request
from ..responses.response import Answer

Handler = Callable[[Chat, Connection, Any], Any]
"""Returns the `data` of the acknowledgement, or an awaitable of it.

A handler that is not a coroutine function has its place in the order as soon as it is called. If it returns
a future, the client's next event does not wait for it. So a client can have many sends in flight.

The docstring is the summary in the API reference.
"""


@dataclass(frozen=True, slots=True)
class ClientEvent:
    name: str
    request: type[Request]
    handler: Handler
    limit: Rate
    answers: type[Answer]
    """The `data` of the acknowledgement."""
    refuses: tuple[type[ChatError], ...] = ()
    """The errors beside those that every event can return."""
    reply: str | None = None
    """The event that carries the response if the client gave no callback."""
    takes_turn: bool = field(init=False)
    """True if the handler is a coroutine function: it starts when all earlier events have ended."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_turn", inspect.iscoroutinefunction(self.handler))
