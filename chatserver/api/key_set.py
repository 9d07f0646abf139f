"""The keys that verify tokens, as a server publishes them (a JWK set)."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import jwt
import structlog

from .. import tasks
from ..errors import Unavailable

log = structlog.get_logger(__name__)

AGE_S = 300.0
"""The keys are fetched again after this time."""
TRUST_S = 3600.0
"""How long the keys are used while they cannot be fetched again."""
PAUSE_S = 30.0
"""Minimum time between two fetches. Otherwise tokens with random `kid`s would flood the server of the keys."""
RETRY_S = 1.0
"""The same after a fetch that failed."""
FETCH_S = 5.0
WAIT_S = 3.0
"""The longest time that a request waits for a fetch."""
BAD_KEY_SET = (
    *(aiohttp.ClientError, TimeoutError, ValueError, jwt.PyJWTError),
    *(AttributeError, TypeError),  # from PyJWT, for keys that are not objects
)
ALGORITHMS = {"RSA": ["RS256"], "EC": ["ES256"], "OKP": ["EdDSA"]}
"""By the type of the key, never by the `alg` in the token."""


class KeySet:
    """The keys behind a URL.

    All requests share one fetch, which a request that is cancelled does not cancel. While the keys cannot be fetched,
    those from before are used without waiting.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = -TRUST_S
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Returns the key with this id. Raises InvalidSignatureError if there is none, and Unavailable if that cannot
        be known now."""
        key = self._find(kid)
        now = time.monotonic()
        if key is not None and now - self._fetched_at <= AGE_S:
            return key
        if self._fetching is None and now - self._tried_at >= (
            RETRY_S if self._failed else PAUSE_S
        ):
            self._fetching = tasks.keep("fetch the keys of tokens", self._fetch)
        if self._fetching is not None and not (key is not None and self._failed):
            await asyncio.wait([self._fetching], timeout=WAIT_S)
            key = self._find(kid)
        if key is not None:
            return key
        if self._failed or self._fetching is not None:
            raise Unavailable("The keys that verify tokens cannot be fetched.")
        raise jwt.InvalidSignatureError("unknown key")

    async def close(self) -> None:
        await tasks.end(self._fetching)

    def _find(self, kid: str | None) -> jwt.PyJWK | None:
        if time.monotonic() - self._fetched_at > TRUST_S:
            return None
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=FETCH_S)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                document = await response.json(content_type=None)
                if response.status != 200 or not isinstance(document, dict):
                    raise ValueError("not a key set")
            keys = jwt.PyJWKSet.from_dict(document).keys
        except BAD_KEY_SET as error:
            log.error("the JWKS cannot be fetched", url=self._url, error=type(error).__name__)
            self._failed = True
        else:
            self._keys = {key.key_id: key for key in keys if key.key_type in ALGORITHMS}
            self._fetched_at = time.monotonic()
            self._failed = False
        self._tried_at = time.monotonic()
        self._fetching = None
