"""An event is a row: name, payload, handler, limit, what is answered, and what is refused."""

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
"""Answers with the `data` of the acknowledgement, or an awaitable of it.

A handler that is no coroutine function takes its place in the order at once. If it then returns a
future, the client's next event does not wait for it: so a client can have many sends under way.

Its docstring says what the event is for.
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
    """Beside what every event may be refused for."""
    reply: str | None = None
    """The event that carries the answer when there is no callback."""
    takes_turn: bool = field(init=False)
    """Whether the handler is a coroutine function: it begins when all before it has ended."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_turn", inspect.iscoroutinefunction(self.handler))
