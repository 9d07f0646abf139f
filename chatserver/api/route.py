"""A route is a row: method, path, payload, handler, response, limits, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ChatError
from .http import MAX_BODY
from .rate_limits import Rate
from .requests.parse import Request
from .responses.response import Answer

Handler = Callable[..., Awaitable[Any]]
"""Takes the Chat, the id of the user who asks (REST alone has one), and the payload. Returns what the
body is to be, or a chatserver.api.http.Reply."""


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
    """Of one user, over REST. The internal API has no rate limit."""
    max_body: int = MAX_BODY
    """Bytes."""
    known: str = ""
    """When 200 is answered; else it is 201. Empty: it is always 200."""
    refuses: tuple[type[ChatError], ...] = ()
    """Beside what every route may refuse."""
