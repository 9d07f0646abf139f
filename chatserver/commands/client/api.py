"""A client of REST and the internal API, as the Master Service or as a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from ... import json_codec
from ...errors import ValidationFailed
from .failures import RefusedByServer, Unreachable

PATIENCE_S = 30.0


class Api:
    """`headers` authenticate each request (`as_master`, `as_user`)."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, headers: Callable[[], Mapping[str, str]]
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._headers = headers

    async def ask(
        self, method: str, path: str, body: Any = None, *, user: str | None = None
    ) -> Any:
        """The decoded body of a successful response; None for 204.

        `path` follows /api. `user`: the user on whose behalf the Master Service calls. Raises
        RefusedByServer, Unreachable.
        """
        headers = dict(self._headers())
        if user is not None:
            headers["X-User-Id"] = f"UTF-8''{quote(user, safe='')}"
        data = None if body is None else json_codec.encode(body)
        try:
            async with self._http.request(
                method,
                f"{self._url}/api{path}",
                data=data,
                headers=headers | ({"Content-Type": "application/json"} if data else {}),
                timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
                # A redirect would send the secret to another address.
                allow_redirects=False,
            ) as answer:
                status, text = answer.status, await answer.read()
            if status == 204:
                return None
            decoded = json_codec.decode(text)
            if status >= 400:
                raise RefusedByServer(decoded["error"])
        except (aiohttp.ClientError, OSError, ValidationFailed, KeyError, TypeError) as error:
            raise Unreachable(self._url) from error
        return decoded


def as_master(secret: str) -> Callable[[], Mapping[str, str]]:
    return lambda: {"X-Internal-Secret": secret}


def as_user(token: Callable[[], str]) -> Callable[[], Mapping[str, str]]:
    return lambda: {"Authorization": f"Bearer {token()}"}


def segment(text: str) -> str:
    """An id, encoded as a segment of a path."""
    return quote(text, safe="")
