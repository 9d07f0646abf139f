"""The undelivered events of one ordering key, a conversation or a user, for one endpoint."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime

from ..endpoints import partition_of
from ..pending import Pending


class KeyQueue:
    """Where the deliveries of one ordering key stand. Its events are sent after each other."""

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
        """What is sent next, in order."""
        self.behind = behind
        """More may be due than is in the queue: it is read when the queue is empty."""
        self.reading = False
        self.dropped = False
        """Another relay's from now on."""
        self.attempts = 0
        """Failed ones of the event that is next."""
        self.backoff_attempts = 0
        """Those of them that make the next pause longer: the ones since the endpoint last came back."""
        self.since: datetime | None = None
        """The first failure since the last success; None: there was none."""
        self.pause: float | None = None
        """Seconds to back off for, when the work on the queue has ended."""
        self.not_before = 0.0
        """The receiver asked not to be sent anything earlier, by the loop's clock."""
        self.timer: asyncio.TimerHandle | None = None

    @property
    def backing_off(self) -> bool:
        """Whether the queue waits for the time of its next attempt."""
        return self.timer is not None

    def succeeded(self) -> None:
        self.since, self.attempts, self.backoff_attempts = None, 0, 0

    def end_backoff(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
