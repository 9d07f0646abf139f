"""What can become of a call, other than its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RefusedByServer(Exception):
    """The server said no; `error` is what it answered with."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code = str(error["code"])
        self.details: Mapping[str, Any] = error.get("details") or {}
        super().__init__(_sentence(error))

    @property
    def retry_after(self) -> float | None:
        """Seconds, when the server has said after how many to try again."""
        after = self.details.get("retryAfter")
        return float(after) if isinstance(after, int | float) else None


class Unreachable(Exception):
    """No chatserver answers at this address."""


class CommandFailed(Exception):
    """A command cannot do what it was asked to; the message says why, and what to do."""


class ConnectionLost(Exception):
    """The connection ended before the answer came: it may have been done, or not."""


def _sentence(error: Mapping[str, Any]) -> str:
    reasons = [str(error["message"])]
    for name, why in (error.get("details") or {}).items():
        if isinstance(why, list):
            reasons.append(f"{name}: {' '.join(map(str, why))}")
    return " ".join(reasons)
