"""The declaration of an operation. Doors, documents and clients are made from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...chat.chat import Chat
from ...errors import ChatError
from ...outbox.admin.admin import OutboxAdmin
from ..http import MAX_BODY
from ..rate_limits import WEIGHT, Cost, Rate
from ..requests.schema import Request, camel
from ..responses.response import Answer


@dataclass(frozen=True, slots=True)
class Caller:
    """The user who requests an operation. On a socket the Connection takes this place."""

    user_id: str


@dataclass(frozen=True, slots=True)
class Made:
    """The response of an operation that creates something, or finds it: over HTTP the status is 201 or 200."""

    data: Any
    is_new: bool


@dataclass(frozen=True, slots=True)
class Underway:
    """The response of an operation whose work continues in the background: over HTTP the status is 202."""


Part = Chat | OutboxAdmin
Handler = Callable[[Any, Any, Any], Any]
"""Called with the Part that the operation works on, the caller and the parsed payload. Returns the response, a Made,
or an awaitable of one.

The caller has `user_id`; in an operation that only sockets have, it is the Connection. The internal API has no
caller (None).

A handler that is not a coroutine function has its place in the order as soon as it is called. If it returns a
future, the next event of a socket does not wait for it. So a client can have many sends in flight.

The docstring is the summary in the API reference.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """The Socket.IO event of an operation."""

    name: str
    limit: Rate
    reply: str | None = None
    """The event that carries the response if the client gave no callback."""


@dataclass(frozen=True, slots=True)
class Route:
    """The HTTP route of an operation. Parameters in the path and in the query are parts of the payload, like
    the keys of the body."""

    method: str
    path: str
    limit: Rate = Rate(50)
    """Per user. Requests of the Master Service have no rate limit."""
    max_body: int = MAX_BODY
    """Bytes."""
    known: str = ""
    """The meaning of status 200, if the operation can also return 201. Empty: it always returns 200."""
    background: str = ""
    """The meaning of status 202, if the operation can also return 204. Empty: it never returns 202."""


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    """`topic.verb`. The topic groups operations in the API reference."""
    request: type[Request]
    handler: Handler
    answers: type[Answer] | None
    """The shape of the response; None: no content (204 over HTTP)."""
    event: Event | None = None
    route: Route | None = None
    only: str = ""
    """The reason why the operation exists at one door only."""
    refuses: tuple[type[ChatError], ...] = ()
    """The errors beside those that every operation of its doors can return."""
    announces: tuple[str, ...] = ()
    """The events that sockets receive because of it."""
    webhooks: tuple[str, ...] = ()
    """The types of webhook events that it causes."""
    present: Callable[[Any], Any] | None = None
    """Makes the response of the handler's result, when the result is not the response itself."""
    cost: Cost | None = None
    """The cost of a request beyond its token. None: nothing. The Master Service has no rate limits."""
    weighs: bool = False
    """True if the bytes of the response are taken from the rate limit, too, when they are known (see `Limits.weigh`)."""
    ends_in_time: bool = False
    """True if the handler is cancelled when the time of its request is over, so that the caller's later changes cannot
    overtake this one. Only if the handler just reads, and leaves all writes to the log: the log finishes and announces
    what it has begun. Every other handler continues without its caller."""

    def __post_init__(self) -> None:
        if bool(self.only) == bool(self.event and self.route):
            raise ValueError(f"{self.name}: an operation at one door needs a reason, at both none")

    @property
    def topic(self) -> str:
        return self.name.partition(".")[0]

    @property
    def price(self) -> str:
        """The tokens that a request takes, in words for the documents."""
        price = "1"
        if (cost := self.cost) is not None:
            per = f" / {cost.per}" if cost.per > 1 else ""
            price += (
                f" + {camel(cost.key)}{per}"
                if cost.apart is None
                else f"; {camel(cost.key)}{per}: {cost.apart}"
            )
        return f"{price} + KiB / {WEIGHT // 1024}" if self.weighs else price

    @property
    def effects(self) -> str:
        """The events that it causes, as a sentence for the documents. Empty if there are none."""
        told = [
            f"{what} {', '.join(f'`{name}`' for name in names)}"
            for what, names in (("sockets receive", self.announces), ("webhooks", self.webhooks))
            if names
        ]
        return f"Causes: {'; '.join(told)}." if told else ""

    async def run(self, part: Part, caller: Caller | None, request: Any) -> Any:
        """Calls the handler, and returns the response when there is one. Raises ChatError."""
        result = self.handler(part, caller, request)
        # Twice for a send: the first result is a future, which has its place in the order.
        while inspect.isawaitable(result):
            result = await result
        return self.present(result) if self.present is not None else result
