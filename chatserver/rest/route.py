"""A route is a row: method, path, payload, handler, limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..chat.chat import Chat
from ..limits import Rate
from ..requests.parse import Request

Handler = Callable[[Chat, str, Any], Awaitable[Any]]
"""Called with the user who asks; answers with what the body is to be, or a chatserver.http.Reply."""


@dataclass(frozen=True, slots=True)
class Route:
    """Names in the path and in the query are parts of the payload, like the keys of the body."""

    method: str
    path: str
    request: type[Request]
    handler: Handler
    answers: str
    limit: Rate = Rate(50)
