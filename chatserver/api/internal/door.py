"""The door of the Master Service itself. Every request needs the shared secret. Served on PORT only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from aiohttp import web

from ...chat.chat import Chat
from ...errors import Unauthenticated
from ...observability.metrics import Metrics
from ...outbox.admin.admin import OutboxAdmin
from ..auth import same_secret
from ..http import HEADER_SECRET, answer, read
from ..operations import internal, jobs, webhooks
from ..operations.http_routes import Handler, add_routes, reply
from ..operations.operation import Operation, Part, Route


class InternalDoor:
    def __init__(
        self, chat: Chat, outbox: OutboxAdmin, metrics: Metrics, secrets: Sequence[str]
    ) -> None:
        self._chat = chat
        self._outbox = outbox
        self._metrics = metrics
        self._secrets = secrets

    def add_to(self, router: web.UrlDispatcher) -> None:
        for operations, part in (
            (internal.OPERATIONS, self._chat),
            (jobs.OPERATIONS, self._chat),
            (webhooks.OPERATIONS, self._outbox),
        ):
            add_routes(router, self._metrics, "internal", operations, partial(self._handler, part))

    def _handler(self, part: Part, operation: Operation, route: Route, name: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            async def work() -> Any:
                if not same_secret(request.headers.get(HEADER_SECRET, ""), self._secrets):
                    raise Unauthenticated()
                asked = await read(request, operation.request, route.max_body)
                return reply(operation, await operation.run(part, None, asked))

            return await answer(request, self._metrics, "internal", name, work, {})

        return handle
