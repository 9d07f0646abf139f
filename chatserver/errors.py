"""Every error that the server returns to a caller. The docstring of a class is its default message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from .clock import iso, now

Details = Mapping[str, Any]


class ChatError(Exception):
    """The server could not do this."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    json_schema: ClassVar[Mapping[str, Any]] = {}
    """The JSON Schema of `details`. Empty if the error has none."""
    explains: ClassVar[bool] = False
    """True if the error always has `details`."""

    def __init__(self, message: str | None = None, details: Details | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.details = details
        super().__init__(self.message)

    @property
    def reason(self) -> dict[str, str]:
        """The reason for which a token is refused, for the log. Empty for other errors."""
        details = self.details or {}
        return {"reason": details["reason"]} if self.status == 401 and details else {}

    def wire(self) -> dict[str, Any]:
        """Returns the error as every door sends it: {code, message, details?, timestamp}."""
        shape: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "timestamp": iso(now()),
        }
        if self.details is not None:
            shape["details"] = self.details
        return shape


Reason = Literal[
    "missing",
    "malformed",
    "signature",
    "algorithm",
    "expired",
    "notYetValid",
    "issuer",
    "audience",
    "subject",
    "claim",
]
"""Why a token is refused."""
_REASON: Mapping[str, Any] = {
    "type": "object",
    "properties": {"reason": {"enum": list(get_args(Reason))}},
    "required": ["reason"],
}


class Unauthenticated(ChatError):
    """A valid token is required."""

    code = "UNAUTHENTICATED"
    status = 401
    json_schema = _REASON

    def __init__(self, message: str | None = None, *, reason: Reason | None = None) -> None:
        """`reason` None: it is not about a token."""
        super().__init__(message, details={"reason": reason} if reason else None)


class TokenExpired(ChatError):
    """The token has expired."""

    code = "TOKEN_EXPIRED"
    status = 401
    json_schema = _REASON
    explains = True

    def __init__(self) -> None:
        super().__init__(details={"reason": "expired"})


class Forbidden(ChatError):
    """Your role does not allow this."""

    code = "FORBIDDEN"
    status = 403


class NotFound(ChatError):
    """Not found, or not visible to you."""

    code = "NOT_FOUND"
    status = 404


class ValidationFailed(ChatError):
    """The request is not valid."""

    code = "VALIDATION_FAILED"
    status = 400
    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "description": "Each invalid field, with the reasons.",
        "additionalProperties": {"type": "array", "items": {"type": "string"}},
    }

    @classmethod
    def of(cls, field: str, reason: str) -> ValidationFailed:
        return cls(details={field: [reason]})


class Conflict(ChatError):
    """This conflicts with the current state."""

    code = "CONFLICT"
    status = 409


class PayloadTooLarge(ChatError):
    """The request is too large."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class RateLimited(ChatError):
    """Too many requests; try again later."""

    code = "RATE_LIMITED"
    status = 429
    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"retryAfter": {"type": "number", "description": "In seconds."}},
        "required": ["retryAfter"],
    }
    explains = True

    def __init__(self, retry_after: float, message: str | None = None) -> None:
        super().__init__(message, details={"retryAfter": retry_after})
        self.retry_after = retry_after


class Unavailable(ChatError):
    """The server is temporarily unavailable; try again with the same clientMessageId."""

    code = "UNAVAILABLE"
    status = 503


class Internal(ChatError):
    """Something went wrong on the server."""
