"""The signature of a webhook: made by the server, checked by the receiver.

A receiver in Python can use `verify` as it is; this module needs nothing but the standard library:

    from chatserver.outbox.signing import BadSignature, verify
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence

MAX_HEADER_CHARS = 4096
MAX_SIGNATURES = 16
"""More of them are an attack: each one costs a comparison with each secret."""


class BadSignature(ValueError):
    """The request is not from the chat server, was changed on the way, or is too old; the message
    says which."""


def sign(body: bytes, secrets: Sequence[str], at: int) -> str:
    """The value of `X-Webhook-Signature`: `t=<at>,v1=<hex>`, with one `v1` per secret in their order.

    Each is the HMAC-SHA256 of `<at>.<body>`; `at` is in Unix seconds.
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
    """Check that a webhook comes from the chat server, unchanged and just now.

    `body`: the request's body exactly as it came, before it is parsed. `header`: the value of
    `X-Webhook-Signature`, None when there is none. `secret`: WEBHOOK_SECRET, or all of them that
    may be in use while it is rotated; any of them will do. `tolerance_s`: how far the time of the
    signature may lie from the receiver's clock (`now`, in Unix seconds), to either side; it keeps a
    recorded request from being sent again later.

    Returns nothing when the signature is good, and raises BadSignature when it is not. Raises
    ValueError when `secret` is missing or empty: that is the receiver's own mistake. What it takes
    does not depend on how much of a wrong signature is right. Parts of the header that it does not
    know are skipped: later versions of the signature may stand beside `v1`.
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
        raise BadSignature("The signature does not match: another secret, or a changed body.")
    age = (time.time() if now is None else now) - int(signed_at)
    if abs(age) > tolerance_s:
        raise BadSignature(f"The signature is {age:.0f} s old; at most {tolerance_s:g} s may be.")


def _parse(header: str | None) -> tuple[str, list[bytes]]:
    """The time, as it is written, and the v1 signatures."""
    if not header:
        raise BadSignature("There is no signature.")
    if len(header) > MAX_HEADER_CHARS:
        raise BadSignature("The signature header is too long.")
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = [value.encode() for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not signatures:
        raise BadSignature("The signature header must have one t and a v1.")
    (signed_at,) = times
    # Other digits than these would be numbers too, and be signed as other bytes.
    if not (signed_at.isascii() and signed_at.isdecimal() and len(signed_at) <= 12):
        raise BadSignature("The t of the signature header is not a time in seconds.")
    if len(signatures) > MAX_SIGNATURES:
        raise BadSignature("The signature header has too many signatures.")
    return signed_at, signatures
