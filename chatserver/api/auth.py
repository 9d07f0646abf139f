"""Verifies tokens and secrets of callers, for every door."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import structlog
from marshmallow import ValidationError

from ..errors import TokenExpired, Unauthenticated, Unavailable
from ..observability.metrics import Families
from .requests.fields import MAX_ID, name_field

log = structlog.get_logger(__name__)

VERIFIED_S = 60.0
VERIFIED = 10_000
JWKS_AGE_S = 300.0
JWKS_PAUSE_S = 30.0
"""Minimum time between two fetches. Otherwise requests with random `kid`s would flood the server of the keys."""
JWKS_TIMEOUT_S = 5.0
BAD_KEY_SET = (
    *(aiohttp.ClientError, TimeoutError, ValueError, jwt.PyJWTError),
    *(AttributeError, TypeError),  # from PyJWT, for keys that are not objects
)
NAME = name_field()
LAST_MOMENT = 253_402_300_799.0
"""The end of the year 9999, and of `datetime`."""
ALGORITHMS = {"RSA": ["RS256"], "EC": ["ES256"], "OKP": ["EdDSA"]}
"""By the type of the key, never by the `alg` in the token."""


@dataclass(frozen=True, slots=True)
class Identity:
    user_id: str
    name: str | None
    expires_at: float
    """Unix seconds."""


class Tokens:
    """Verifies tokens: HS256 with any of the secrets, or, with a JWKS URL, asymmetric keys only."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        issuer: Sequence[str] = (),
        audience: Sequence[str] = (),
        jwks_url: str = "",
    ) -> None:
        self._secrets = secrets
        self._checks: dict[str, Any] = {
            "options": {"require": ["exp", "sub"], "verify_aud": bool(audience)}
        }
        if issuer:
            self._checks["issuer"] = issuer
        if audience:
            self._checks["audience"] = audience
        self._verified: OrderedDict[str, tuple[Identity, float]] = OrderedDict()
        self._jwks = _KeySet(jwks_url) if jwks_url else None

    def watch(self, metrics: Families) -> None:
        metrics.memory("verified tokens", lambda: len(self._verified), VERIFIED)

    async def verify(self, token: str) -> Identity:
        """Returns the caller's identity. Raises Unauthenticated and TokenExpired, and Unavailable if the key
        set cannot be fetched.

        The result is cached for a minute, or until the token expires: a client sends the same token with
        every request, and verifying it is a tenth of the cost of a request.
        """
        known = self._verified.get(token)
        if known is not None and time.time() < known[1]:
            return known[0]
        identity = await self._verify(token)
        at = time.time()
        verified = self._verified
        verified[token] = (identity, min(identity.expires_at, at + VERIFIED_S))
        verified.move_to_end(token)
        while verified and (len(verified) > VERIFIED or next(iter(verified.values()))[1] < at):
            verified.popitem(last=False)
        return identity

    async def _verify(self, token: str) -> Identity:
        try:
            claims = await self._claims(token)
        except jwt.ExpiredSignatureError:
            raise TokenExpired() from None
        except (jwt.PyJWTError, ValueError):
            # Without the reason, which can repeat contents of the token.
            raise Unauthenticated() from None
        user_id = claims["sub"]
        if not 0 < len(user_id) <= MAX_ID or not user_id.isprintable():
            raise Unauthenticated(f"sub must have 1 to {MAX_ID} printable characters.")
        return Identity(user_id, _name(claims.get("name")), min(float(claims["exp"]), LAST_MOMENT))

    async def _claims(self, token: str) -> dict[str, Any]:
        if self._jwks is not None:
            key = await self._jwks.key(jwt.get_unverified_header(token).get("kid"))
            return jwt.decode(
                token, key.key, algorithms=ALGORITHMS[str(key.key_type)], **self._checks
            )
        failure: jwt.InvalidTokenError = jwt.InvalidSignatureError()
        for secret in self._secrets:
            try:
                return jwt.decode(token, secret, algorithms=["HS256"], **self._checks)
            except jwt.InvalidSignatureError as error:
                failure = error
        raise failure


def _name(claim: Any) -> str | None:
    """Returns a valid name. Another one is no reason to refuse the user: None."""
    try:
        name: str | None = NAME.deserialize(claim)
    except ValidationError:
        return None
    return name


class _KeySet:
    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = -JWKS_AGE_S
        self._lock = asyncio.Lock()

    async def key(self, kid: str | None) -> jwt.PyJWK:
        age = time.monotonic() - self._fetched_at
        if age > JWKS_AGE_S or (kid not in self._keys and age > JWKS_PAUSE_S):
            async with self._lock:
                if time.monotonic() - self._fetched_at >= min(age, JWKS_PAUSE_S):
                    await self._fetch()
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        try:
            return self._keys[kid]
        except KeyError:
            raise jwt.InvalidTokenError("unknown key") from None

    async def _fetch(self) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=JWKS_TIMEOUT_S)
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
            if not self._keys:
                raise Unavailable("The keys that verify tokens cannot be fetched.") from None
            # Old keys are better than refusing everybody.
            self._fetched_at = time.monotonic()
            return
        self._keys = {key.key_id: key for key in keys if key.key_type in ALGORITHMS}
        self._fetched_at = time.monotonic()


def same_secret(given: str, secrets: Sequence[str]) -> bool:
    """Returns True if `given` is one of the secrets. The time it takes reveals nothing about them."""
    offered = given.encode("utf-8", "surrogateescape")
    # Always compare all: stopping at the first match would reveal which secret it was.
    matches = [hmac.compare_digest(offered, secret.encode()) for secret in secrets]
    return any(matches)
