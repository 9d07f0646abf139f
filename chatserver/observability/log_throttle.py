"""No client can fill the log: of each kind of line only so many a second are written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import MutableMapping
from typing import Any

import structlog

LINES = 50
"""Of a kind, a second."""
SECOND = 1.0
LEFT_OUT = "left out"

Line = MutableMapping[str, Any]
Kind = tuple[str, str, str]
"""Level, what was said, and with which code. There are few of them, whatever clients send."""

log = structlog.get_logger(__name__)


class Bounds:
    """Which lines are written. How many were not is said a second later."""

    def __init__(self) -> None:
        self._began = 0.0
        self._seen: dict[Kind, int] = {}

    def line(self, _: Any, level: str, line: Line) -> Line:
        """A structlog processor. What was done as it was asked for is always written: how much of it
        a client may ask for is limited where it asks, but for connecting."""
        of, code = line["event"], str(line.get("code", ""))
        if code == "OK" and of == "event" and line["name"] == "connect":
            of = "connect"
        elif code == "OK" or of == LEFT_OUT:
            return line
        if self._passes((level, of, code)):
            return line
        raise structlog.DropEvent

    def record(self, record: logging.LogRecord) -> bool:
        """A filter of the standard library's logging. A kind is a place in the code: what is said there
        may have a client's words in it."""
        return self._passes((record.levelname.lower(), f"{record.name}:{record.lineno}", ""))

    def _passes(self, kind: Kind) -> bool:
        if time.monotonic() - self._began >= SECOND:
            self._begin()
        count = self._seen[kind] = self._seen.get(kind, 0) + 1
        if count == LINES + 1:
            self._promise()
        return count <= LINES

    def _promise(self) -> None:
        """Say how many it were even if no other line comes."""
        try:
            asyncio.get_running_loop().call_later(SECOND, self._keep)
        except RuntimeError:
            return  # A thread without a loop: the next line brings it.

    def _keep(self) -> None:
        if time.monotonic() - self._began >= SECOND:
            self._begin()

    def _begin(self) -> None:
        seen, self._seen = self._seen, {}
        self._began = time.monotonic()
        for (level, of, code), count in seen.items():
            if count > LINES:
                says = {"code": code} if code else {}
                getattr(log, level, log.error)(LEFT_OUT, of=of, count=count - LINES, **says)
