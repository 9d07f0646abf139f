"""Authenticates the caller of every REST request, checks the rate limit, parses, and calls the handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from ...chat.chat import Chat
from ...errors import Unauthenticated, ValidationFailed
from ...observability.metrics import Metrics
from ..auth import Tokens, same_secret
from ..http import HEADER_SECRET, answer, pattern, read
from ..rate_limits import Limits
from ..requests.fields import MAX_ID
from ..requests.parse import ids_of
from ..route import Route
from . import conversations, messages, presence, receipts

ROUTES: Sequence[Route] = [
    # /direct and /private come before /{conversationId}, so that they are not taken for ids.
    *conversations.ROUTES,
    *messages.ROUTES,
    *receipts.ROUTES,
    *presence.ROUTES,
]

Handler = Callable[[web.Request], Awaitable[web.Response]]


class RestDoor:
    def __init__(
        self,
        chat: Chat,
        tokens: Tokens,
        limits: Limits,
        metrics: Metrics,
        internal_secrets: Sequence[str],
    ) -> None:
        self._chat = chat
        self._tokens = tokens
        self._limits = limits
        self._metrics = metrics
        self._internal_secrets = internal_secrets

    def add_to(self, router: web.UrlDispatcher) -> None:
        for route in ROUTES:
            router.add_route(route.method, pattern(route.path), self._handler(route))
        self._metrics.expect("rest", (f"{route.method} {route.path}" for route in ROUTES))

    def _handler(self, route: Route) -> Handler:
        name = f"{route.method} {route.path}"

        async def handle(request: web.Request) -> web.Response:
            ids: dict[str, Any] = {}

            async def work() -> Any:
                user_id = ids["user"] = await self._caller(request)
                if HEADER_SECRET not in request.headers:
                    self._limits.spend(user_id, name, route.limit)
                asked = await read(request, route.request, route.max_body)
                ids.update(ids_of(asked))
                return await route.handler(self._chat, user_id, asked)

            return await answer(request, self._metrics, "rest", name, work, ids)

        return handle

    async def _caller(self, request: web.Request) -> str:
        """Returns the id of the calling user, from the token, or from X-User-Id if the Master Service calls:
        it may act for any user."""
        if (secret := request.headers.get(HEADER_SECRET)) is not None:
            if not same_secret(secret, self._internal_secrets):
                raise Unauthenticated()
            user_id = request.headers.get("X-User-Id", "")
            if not 0 < len(user_id) <= MAX_ID or not user_id.isprintable():
                raise ValidationFailed.of(
                    "X-User-Id", f"Must have 1 to {MAX_ID} printable characters."
                )
            await self._chat.users.admit(user_id, None)
            return user_id
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated()
        identity = await self._tokens.verify(token.strip())
        await self._chat.users.admit(identity.user_id, identity.name)
        return identity.user_id
