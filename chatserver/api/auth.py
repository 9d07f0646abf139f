"""Verifies tokens and secrets of callers, for every door."""

from __future__ import annotations

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from marshmallow import ValidationError

from ..errors import Reason, TokenExpired, Unauthenticated
from ..observability.metrics import Families
from .key_set import ALGORITHMS, KeySet
from .requests.schema import MAX_ID, name_field

VERIFIED_S = 60.0
VERIFIED = 10_000
NAME = name_field()
LAST_MOMENT = 253_402_300_799.0
"""The end of the year 9999, and of `datetime`."""
ASYMMETRIC = [name for names in ALGORITHMS.values() for name in names]
SIGNATURE_ONLY: Any = {
    f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "iss", "aud", "sub", "jti")
}


@dataclass(frozen=True, slots=True)
class Identity:
    user_id: str
    name: str | None
    expires_at: float
    """Unix seconds, with the leeway."""


class Tokens:
    """Verifies tokens: HS256 with any of the secrets, or, with a JWKS URL, asymmetric keys only."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        issuer: Sequence[str] = (),
        audience: Sequence[str] = (),
        jwks_url: str = "",
        leeway_s: float = 0.0,
    ) -> None:
        """`issuer`, `audience`: those of which a token must have one; empty: it may have any, or none.
        `leeway_s`: how far the issuer's clock may be from ours, in seconds."""
        self._secrets = secrets
        self._issuers = issuer
        self._audiences = audience
        self._leeway_s = leeway_s
        self._verified: OrderedDict[str, tuple[Identity, float]] = OrderedDict()
        self._jwks = KeySet(jwks_url) if jwks_url else None

    def watch(self, metrics: Families) -> None:
        metrics.memory("verified tokens", lambda: len(self._verified), VERIFIED)

    async def close(self) -> None:
        if self._jwks is not None:
            await self._jwks.close()

    async def verify(self, token: str) -> Identity:
        """Returns the caller's identity. `token` may have the prefix `Bearer `. Raises Unauthenticated and
        TokenExpired, and Unavailable if the key set cannot be fetched.

        The result is cached for a minute, or until the token expires: a client sends the same token with
        every request, and verifying it is a tenth of the cost of a request.
        """
        token = bearer(token) or token
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
        if not token:
            raise Unauthenticated(reason="missing")
        # Without the errors' texts, which can repeat contents of the token.
        try:
            return self._identity(await self._claims(token))
        except jwt.InvalidAlgorithmError:
            raise Unauthenticated(reason="algorithm") from None
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
            raise Unauthenticated(reason="signature") from None
        except (jwt.PyJWTError, ValueError):
            raise Unauthenticated(reason=_unreadable(token)) from None

    async def _claims(self, token: str) -> dict[str, Any]:
        """Returns the claims of a token whose signature is valid."""
        if self._jwks is not None:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ASYMMETRIC:
                raise jwt.InvalidAlgorithmError
            key = await self._jwks.key(header.get("kid"))
            return jwt.decode(
                token, key.key, algorithms=ALGORITHMS[str(key.key_type)], options=SIGNATURE_ONLY
            )
        failure: jwt.InvalidTokenError = jwt.InvalidSignatureError()
        for secret in self._secrets:
            try:
                return jwt.decode(token, secret, algorithms=["HS256"], options=SIGNATURE_ONLY)
            except jwt.InvalidSignatureError as error:
                failure = error
        raise failure

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        """Checks the claims: not `iat`, which says nothing that `nbf` and `exp` do not."""
        now, leeway_s = time.time(), self._leeway_s
        expires_at, valid_from = _moment(claims.get("exp")), _moment(claims.get("nbf", 0))
        if expires_at is None or valid_from is None:
            raise Unauthenticated(reason="claim")
        if expires_at + leeway_s <= now:
            raise TokenExpired()
        if valid_from - leeway_s > now:
            raise Unauthenticated("The token is not valid yet.", reason="notYetValid")
        if self._issuers and claims.get("iss") not in self._issuers:
            raise Unauthenticated(reason="issuer")
        audience = claims.get("aud")
        given = audience if isinstance(audience, list) else [audience]
        if self._audiences and not any(each in self._audiences for each in given):
            raise Unauthenticated(reason="audience")
        user_id = claims.get("sub")
        if not (isinstance(user_id, str) and 0 < len(user_id) <= MAX_ID and user_id.isprintable()):
            raise Unauthenticated(
                f"sub must have 1 to {MAX_ID} printable characters.", reason="subject"
            )
        return Identity(user_id, _name(claims.get("name")), min(expires_at + leeway_s, LAST_MOMENT))


def _unreadable(token: str) -> Reason:
    """Returns the reason for a token that cannot be decoded: perhaps only its signature cannot."""
    try:
        jwt.decode(token.rpartition(".")[0] + ".", options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError):
        return "malformed"
    return "signature"


def _moment(claim: Any) -> float | None:
    """Returns a time in Unix seconds. Some issuers write it as a string. None: it is not a time."""
    try:
        moment = float(claim)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if math.isfinite(moment) and not isinstance(claim, bool) else None


def bearer(text: str) -> str:
    """Returns the token in `Bearer <token>`, or an empty string."""
    scheme, _, token = text.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _name(claim: Any) -> str | None:
    """Returns a valid name. Another one is no reason to refuse the user: None."""
    try:
        name: str | None = NAME.deserialize(claim)
    except ValidationError:
        return None
    return name


def header_text(value: str) -> str:
    """Returns the text of a header that aiohttp has read as UTF-8. What is not UTF-8 is Latin-1: `fetch` and many
    other clients send that."""
    sent = value.encode("utf-8", "surrogateescape")
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return sent.decode("latin-1")


def same_secret(given: str, secrets: Sequence[str]) -> bool:
    """Returns True if `given`, a header, is one of the secrets. The time it takes reveals nothing about them."""
    offered = header_text(given).encode()
    # Always compare all: stopping at the first match would reveal which secret it was.
    matches = [hmac.compare_digest(offered, secret.encode()) for secret in secrets]
    return any(matches)
