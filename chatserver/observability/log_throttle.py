"""Limits the log lines of each kind per second, so that no client can fill the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import MutableMapping
from typing import Any

import structlog

LINES = 50
"""Per kind and second."""
SECOND = 1.0
LEFT_OUT = "left out"

Line = MutableMapping[str, Any]
Kind = tuple[str, str, str]
"""Level, event and code. There are few kinds, and clients cannot add any."""

log = structlog.get_logger(__name__)


class Bounds:
    """Drops lines beyond the limit. A line a second later says how many were dropped."""

    def __init__(self) -> None:
        self._began = 0.0
        self._seen: dict[Kind, int] = {}

    def line(self, _: Any, level: str, line: Line) -> Line:
        """A structlog processor. Lines with the code OK are always written, except for connects: rate
        limits bound how many events and requests succeed."""
        of, code = line["event"], str(line.get("code", ""))
        if code == "OK" and of == "event" and line["name"] == "connect":
            of = "connect"
        elif code == "OK" or of == LEFT_OUT:
            return line
        if self._passes((level, of, code)):
            return line
        raise structlog.DropEvent

    def record(self, record: logging.LogRecord) -> bool:
        """A filter for the standard library's logging. The kind is the line of code that logs, because
        the message may contain a client's text."""
        return self._passes((record.levelname.lower(), f"{record.name}:{record.lineno}", ""))

    def _passes(self, kind: Kind) -> bool:
        if time.monotonic() - self._began >= SECOND:
            self._begin()
        count = self._seen[kind] = self._seen.get(kind, 0) + 1
        if count == LINES + 1:
            self._promise()
        return count <= LINES

    def _promise(self) -> None:
        """Schedules the line that says how many were dropped, in case no other line triggers it."""
        try:
            asyncio.get_running_loop().call_later(SECOND, self._keep)
        except RuntimeError:
            return  # A thread without an event loop: the next line triggers it.

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
