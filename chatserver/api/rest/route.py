"""A route is a row: method, path, payload, handler, answer, limit, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ...chat.chat import Chat
from ...errors import ChatError
from ..rate_limits import Rate
from ..requests.parse import Request
from ..responses.response import Answer

Handler = Callable[[Chat, str, Any], Awaitable[Any]]
"""Called with the user who asks; answers with what the body is to be, or a chatserver.api.http.Reply."""


@dataclass(frozen=True, slots=True)
class Route:
    """Names in the path and in the query are parts of the payload, like the keys of the body.

    The handler's docstring says what the route is for.
    """

    method: str
    path: str
    request: type[Request]
    handler: Handler
    answers: type[Answer] | None
    """The body of a success; None: there is none (204)."""
    limit: Rate = Rate(50)
    known: str = ""
    """When 200 is answered; else it is 201. Empty: it is always 200."""
    refuses: tuple[type[ChatError], ...] = ()
    """Beside what every route may refuse."""
