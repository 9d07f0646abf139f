"""Who asks, what for, the answer: every REST request goes through here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from aiohttp import web

from .. import wire
from ..auth import Tokens, same_secret
from ..chat.chat import Chat
from ..errors import ChatError, NotFound, PayloadTooLarge, RateLimited, Unauthenticated, ValidationFailed
from ..limits import Limits
from ..metrics import Metrics
from ..mongo import deadline
from ..refusals import refusal
from ..requests import MAX_ID, Request, parse
from . import conversations, messages, presence, receipts
from .route import Reply, Route

log = structlog.get_logger(__name__)

MAX_BODY = 64 * 1024
HANDLER_S = 4.5

ROUTES: Sequence[Route] = [
    # Before the routes of one conversation: "direct" and "private" are no ids.
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
            router.add_route(route.method, route.path, self._handler(route))

    def _handler(self, route: Route) -> Handler:
        name = f"{route.method} {route.path}"

        async def handle(request: web.Request) -> web.Response:
            ids: dict[str, Any] = {}

            async def work() -> Any:
                user_id = ids["user"] = await self._caller(request)
                if HEADER_SECRET not in request.headers:
                    self._limits.spend(user_id, name, route.limit)
                asked = await read(request, route.request, MAX_BODY)
                return await route.handler(self._chat, user_id, asked)

            return await answer(self._metrics, "rest", name, work, ids)

        return handle

    async def _caller(self, request: web.Request) -> str:
        """The user who asks: by token, or named by the Master Service, which may act for anyone."""
        if (secret := request.headers.get(HEADER_SECRET)) is not None:
            if not same_secret(secret, self._internal_secrets):
                raise Unauthenticated()
            user_id = request.headers.get("X-User-Id", "")
            if not 0 < len(user_id) <= MAX_ID or not user_id.isprintable():
                raise ValidationFailed.of("X-User-Id", f"Must have 1 to {MAX_ID} printable characters.")
            await self._chat.users.admit(user_id, None)
            return user_id
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated()
        identity = await self._tokens.verify(token.strip())
        await self._chat.users.admit(identity.user_id, identity.name)
        return identity.user_id


HEADER_SECRET = "X-Internal-Secret"  # noqa: S105


async def answer(
    metrics: Metrics, door: str, name: str, work: Callable[[], Awaitable[Any]], ids: dict[str, Any]
) -> web.Response:
    """Do the work of a request, and answer whatever becomes of it."""
    started = time.perf_counter()
    code = "OK"
    try:
        async with asyncio.timeout(HANDLER_S):
            with deadline():
                result = await work()
        response = _response(result)
    except Exception as error:
        refused = refusal(error)
        code = refused.code
        response = refusal_response(refused)
    seconds = time.perf_counter() - started
    metrics.observe(door, name, code, seconds)
    log.info("request", door=door, name=name, code=code, ms=round(seconds * 1000, 2), **ids)
    return response


async def read(request: web.Request, kind: type[Request], most: int) -> Any:
    """The payload of a request: path, query and body together. Raises ValidationFailed."""
    data: Any = {}
    if request.body_exists:
        if (request.content_length or 0) > most:
            raise PayloadTooLarge(f"A body has at most {most} bytes.")
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise PayloadTooLarge() from None
        if len(body) > most:
            raise PayloadTooLarge(f"A body has at most {most} bytes.")
        if body:
            data = wire.decode(body)
            if not isinstance(data, dict):
                raise ValidationFailed("The body is a JSON object.")
    for outside in (request.query, request.match_info):
        for key, value in outside.items():
            if key in data:
                raise ValidationFailed.of(str(key), "Given twice.")
            data[key] = value
    return parse(kind, data)


def _response(result: Any) -> web.Response:
    status, body = (result.status, result.body) if isinstance(result, Reply) else (200, result)
    if body is None:
        return web.Response(status=status)
    return web.Response(status=status, body=wire.encode(body), content_type="application/json")


def refusal_response(error: ChatError) -> web.Response:
    headers = {"Retry-After": str(-int(-error.retry_after // 1))} if isinstance(error, RateLimited) else None
    return web.Response(
        status=error.status,
        body=wire.encode({"error": error.wire()}),
        content_type="application/json",
        headers=headers,
    )


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What aiohttp refuses by itself, in the one error shape."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return refusal_response(PayloadTooLarge())
    except web.HTTPNotFound:
        return refusal_response(NotFound("There is no such endpoint."))
    except web.HTTPMethodNotAllowed as error:
        return refusal_response(NotFound(f"There is no {error.method} here."))
