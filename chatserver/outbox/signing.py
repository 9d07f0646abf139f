"""Webhook signatures: `sign` for the server, `verify` for the receiver.

A receiver in Python can use `verify` as it is. This module needs only the standard library:

    from chatserver.outbox.signing import BadSignature, verify
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence

MAX_HEADER_CHARS = 4096
MAX_SIGNATURES = 16
"""A header with more is an attack: each signature is compared with each secret."""


class BadSignature(ValueError):
    """The request is not from the chat server, was altered on the way, or is too old. The message says which."""


def sign(body: bytes, secrets: Sequence[str], at: int) -> str:
    """The value of `X-Webhook-Signature`: `t=<at>,v1=<hex>`, with one `v1` per secret, in their order.

    Each `v1` is the HMAC-SHA256 of `<at>.<body>`. `at` is in Unix seconds.
    """
    text = b"%d.%b" % (at, body)
    signatures = [f",v1={hmac.digest(secret.encode(), text, 'sha256').hex()}" for secret in secrets]
    return f"t={at}{''.join(signatures)}"


def verify(
    body: bytes,
    header: str | None,
    secret: str | Sequence[str],
    *,
    tolerance_s: float = 300,
    now: float | None = None,
) -> None:
    """Check that a webhook comes from the chat server, unaltered and recent.

    `body`: the request's body exactly as received, before parsing. `header`: the value of
    `X-Webhook-Signature`, None if the request has none. `secret`: WEBHOOK_SECRET, or a list of the
    secrets in use during a rotation; a match with any of them is enough. `tolerance_s`: the largest
    accepted difference, in either direction, between the signature's time and the receiver's clock
    (`now`, in Unix seconds). It prevents an attacker from replaying a recorded request later.

    Returns None if the signature is valid, raises BadSignature if not. Raises ValueError if `secret`
    is missing or empty, which is the receiver's own mistake. Signatures are compared in constant
    time. Unknown parts of the header are skipped, so that later signature versions can be added
    beside `v1`.
    """
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not all(secrets) or not secrets:
        raise ValueError("There is no secret to verify with.")
    signed_at, signatures = _parse(header)
    text = b"%b.%b" % (signed_at.encode(), body)
    good = False
    for key in secrets:
        expected = hmac.digest(key.encode(), text, "sha256").hex().encode()
        for given in signatures:
            good |= hmac.compare_digest(expected, given)
    if not good:
        raise BadSignature("The signature does not match: wrong secret, or altered body.")
    age = (time.time() if now is None else now) - int(signed_at)
    if abs(age) > tolerance_s:
        raise BadSignature(f"The signature is {age:.0f} s old; the limit is {tolerance_s:g} s.")


def _parse(header: str | None) -> tuple[str, list[bytes]]:
    """The text after `t=`, and the v1 signatures."""
    if not header:
        raise BadSignature("There is no signature.")
    if len(header) > MAX_HEADER_CHARS:
        raise BadSignature("The signature header is too long.")
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = [value.encode() for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not signatures:
        raise BadSignature("The signature header must have exactly one t, and a v1.")
    (signed_at,) = times
    # int() also accepts non-ASCII digits, whose bytes the server never signs.
    if not (signed_at.isascii() and signed_at.isdecimal() and len(signed_at) <= 12):
        raise BadSignature("The t of the signature header is not a time in seconds.")
    if len(signatures) > MAX_SIGNATURES:
        raise BadSignature("The signature header has too many signatures.")
    return signed_at, signatures
