"""Authenticates the caller of every REST request, checks the rate limit, parses, and calls the handler."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from ...chat.chat import Chat
from ...errors import Unauthenticated, ValidationFailed
from ...observability.metrics import Metrics
from ..auth import Tokens, bearer, header_text, same_secret
from ..http import HEADER_SECRET, answer, read
from ..operations.http_routes import Handler, add_routes, reply
from ..operations.operation import Caller, Operation, Route
from ..operations.table import FOR_USERS
from ..rate_limits import Limits
from ..requests.schema import MAX_ID, ids_of

EXTENDED = re.compile(r"UTF-8''((?:[^%]|%[0-9a-f]{2})*)", re.IGNORECASE | re.ASCII)
"""The one way to write any text in a header (RFC 8187, section 3.2)."""


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
        add_routes(router, self._metrics, "rest", FOR_USERS, self._handler)

    def _handler(self, operation: Operation, route: Route, name: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            ids: dict[str, Any] = {}

            async def work() -> Any:
                user_id = ids["user"] = await self._caller(request)
                limited = HEADER_SECRET not in request.headers
                if limited:
                    self._limits.spend(user_id, name, route.limit)
                asked = await read(request, operation.request, route.max_body)
                ids.update(ids_of(asked))
                if limited and operation.cost is not None:
                    # Refused if others took its tokens while its body arrived: many could wait for their bodies.
                    self._limits.charge(user_id, name, route.limit, operation.cost, asked)
                result = await operation.run(self._chat, Caller(user_id), asked)
                if limited and operation.weighs:
                    # Here and not after the answer, which a client that goes away does not get.
                    result = self._limits.weigh(user_id, name, route.limit, result)
                return reply(operation, result)

            ends = operation.ends_in_time
            return await answer(request, self._metrics, "rest", name, work, ids, ends_in_time=ends)

        return handle

    async def _caller(self, request: web.Request) -> str:
        """Returns the id of the calling user, from the token, or from X-User-Id if the Master Service calls:
        it may act for any user."""
        if (secret := request.headers.get(HEADER_SECRET)) is not None:
            if not same_secret(secret, self._internal_secrets):
                raise Unauthenticated()
            user_id = _user_id(request.headers.get("X-User-Id", ""))
            await self._chat.users.admit(user_id, None)
            return user_id
        identity = await self._tokens.verify(bearer(request.headers.get("Authorization", "")))
        await self._chat.users.admit(identity.user_id, identity.name)
        return identity.user_id


def _user_id(header: str) -> str:
    """Returns the id in X-User-Id: plain, or as EXTENDED. Raises ValidationFailed."""
    text = header_text(header)
    if text[:7].upper() == "UTF-8''":
        found = EXTENDED.fullmatch(text)
        try:
            text = unquote_to_bytes(found[1]).decode() if found else ""
        except UnicodeDecodeError:
            text = ""
    if not 0 < len(text) <= MAX_ID or not text.isprintable():
        raise ValidationFailed.of(
            "X-User-Id",
            f"Must have 1 to {MAX_ID} printable characters, plain or as UTF-8''<percent-encoded>.",
        )
    return text
