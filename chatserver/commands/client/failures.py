"""The ways in which a call can fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RefusedByServer(Exception):
    """The server refused the request. `error` is the error of its answer."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code = str(error["code"])
        self.details: Mapping[str, Any] = error.get("details") or {}
        super().__init__(_sentence(error))

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next try, if the server named them."""
        after = self.details.get("retryAfter")
        return float(after) if isinstance(after, int | float) else None


class Unreachable(Exception):
    """No chatserver answers at this URL."""


class CommandFailed(Exception):
    """The command cannot continue. The message gives the reason and a remedy."""


class ConnectionLost(Exception):
    """The connection closed before the answer arrived. The server may or may not have done the work."""


def _sentence(error: Mapping[str, Any]) -> str:
    reasons = [str(error["message"])]
    for name, why in (error.get("details") or {}).items():
        if isinstance(why, list):
            reasons.append(f"{name}: {' '.join(map(str, why))}")
    return " ".join(reasons)
