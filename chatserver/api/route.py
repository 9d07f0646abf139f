"""A route is a row: method, path, payload, handler, response, limits, errors."""

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
"""Takes the Chat, the id of the calling user (REST only), and the payload. Returns the response body, or a
chatserver.api.http.Reply."""


@dataclass(frozen=True, slots=True)
class Route:
    """Parameters in the path and in the query are parts of the payload, like the keys of the body.

    The handler's docstring is the summary in the API reference.
    """

    method: str
    path: str
    request: type[Request]
    handler: Handler
    answers: type[Answer] | None
    """The body of a successful response; None: no body (204)."""
    limit: Rate = Rate(50)
    """Per user, over REST. The internal API has no rate limit."""
    max_body: int = MAX_BODY
    """Bytes."""
    known: str = ""
    """The meaning of status 200, if the route can also return 201. Empty: it always returns 200."""
    refuses: tuple[type[ChatError], ...] = ()
    """The errors beside those that every route can return."""
