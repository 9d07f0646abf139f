"""The undelivered events of one ordering key (a conversation or a user) for one endpoint."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime

from ..endpoints import partition_of
from ..pending import Pending


class KeyQueue:
    """The in-memory state of one ordering key. Its events are sent one after another."""

    __slots__ = (
        "attempts",
        "backoff_attempts",
        "behind",
        "dropped",
        "events",
        "not_before",
        "ordering_key",
        "partition",
        "pause",
        "reading",
        "since",
        "timer",
    )

    def __init__(self, ordering_key: str, *, behind: bool) -> None:
        self.ordering_key = ordering_key
        self.partition = partition_of(ordering_key)
        self.events: deque[Pending] = deque()
        """The next events, in order."""
        self.behind = behind
        """The database may have due events that are not in the queue. They are read when it is empty."""
        self.reading = False
        self.dropped = False
        """The key now belongs to another relay."""
        self.attempts = 0
        """Failed attempts of the next event."""
        self.backoff_attempts = 0
        """Failed attempts since the endpoint last came back. They determine the length of the next pause."""
        self.since: datetime | None = None
        """The first failure since the last success; None if there was none."""
        self.pause: float | None = None
        """Seconds to back off for when the current work on the queue is done."""
        self.not_before = 0.0
        """The end of the pause that the receiver requested, by the loop's clock."""
        self.timer: asyncio.TimerHandle | None = None

    @property
    def backing_off(self) -> bool:
        """True while the queue waits for its next attempt."""
        return self.timer is not None

    def succeeded(self) -> None:
        self.since, self.attempts, self.backoff_attempts = None, 0, 0

    def end_backoff(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
