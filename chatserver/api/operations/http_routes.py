"""The HTTP side of operations, for the doors that speak HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from ...observability.metrics import Metrics
from ..http import Reply, pattern
from .operation import Made, Operation, Route, Underway

Handler = Callable[[web.Request], Awaitable[web.Response]]


def add_routes(
    router: web.UrlDispatcher,
    metrics: Metrics,
    door: str,
    operations: Sequence[Operation],
    handler: Callable[[Operation, Route, str], Handler],
) -> None:
    """Adds the route of each operation that has one. `handler(operation, route, name)` makes its handler."""
    names: list[str] = []
    for operation in operations:
        if (route := operation.route) is not None:
            names.append(f"{route.method} {route.path}")
            router.add_route(
                route.method, pattern(route.path), handler(operation, route, names[-1])
            )
    metrics.expect(door, names)


def reply(operation: Operation, response: Any) -> Reply:
    """Returns the status and the body for the response of an operation."""
    if isinstance(response, Underway):
        return Reply(202, {})
    if operation.answers is None:
        return Reply(204)
    if isinstance(response, Made):
        return Reply(201 if response.is_new else 200, response.data)
    return Reply(200, response)
