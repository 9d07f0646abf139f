"""What the database is asked, and how it answers: for operators."""

from __future__ import annotations

from typing import Any

from pymongo import monitoring

from ..metrics import Families, Histograms, Labels

WAITING = frozenset({"getMore"})
"""Of a change stream it waits for changes: how long it takes says nothing."""


class Commands(monitoring.CommandListener):
    """Hears of every command. That costs 5 µs each; a batch of sends is one command."""

    def __init__(self) -> None:
        self._took = Histograms()
        self._failed: dict[Labels, float] = {}

    def watch(self, metrics: Families) -> None:
        metrics.histograms(
            "chat_mongo_command_seconds",
            "How long MongoDB took to answer, by command.",
            "command",
            self._took,
        )
        metrics.counters(
            "chat_mongo_command_failures_total",
            "Commands that MongoDB refused or did not answer, by command and code.",
            ("command", "code"),
            lambda: self._failed,
        )

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Of no interest before it has ended."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name not in WAITING:
            self._took[event.command_name].observe(event.duration_micros / 1e6)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        key = (event.command_name, _code(event.failure))
        self._failed[key] = self._failed.get(key, 0) + 1


def _code(failure: Any) -> str:
    """The server's own name for it, or that of the driver's exception."""
    return str(failure.get("codeName") or failure.get("errtype") or failure.get("code", "unknown"))
