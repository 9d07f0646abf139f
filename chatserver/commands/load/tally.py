"""The measurements of a run: times, counts and errors."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

PER_E = 50
"""Buckets per factor of e. The times that are read from them are accurate to 1 %."""
FINEST_S = 1e-6
LAST = int(math.log(1000 / FINEST_S) * PER_E)


class Times:
    """Durations. Their number does not affect the memory used."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._buckets = [0] * (LAST + 1)

    def add(self, seconds: float) -> None:
        self.count += 1
        if seconds > self.longest:
            self.longest = seconds
        self._buckets[min(int(math.log(max(seconds / FINEST_S, 1.0)) * PER_E), LAST)] += 1

    def at(self, share: float) -> float:
        """The duration, in seconds, that this share of them does not exceed; 0 if there are none."""
        wanted, seen = math.ceil(share * self.count), 0
        for n, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(math.exp((n + 0.5) / PER_E) * FINEST_S, self.longest)
        return 0.0

    def ms(self) -> dict[str, float | int]:
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        found = {name: round(self.at(share) * 1000, 3) for name, share in shares.items()}
        return {**found, "max": round(self.longest * 1000, 3), "count": self.count}


@dataclass
class Tally:
    connect: Times = field(default_factory=Times)
    """From the first byte to `connected`."""
    ack: Times = field(default_factory=Times)
    """From the time at which a message is due to its acknowledgement."""
    delivery: Times = field(default_factory=Times)
    """From the time at which a message is due to its delivery to each member, including the sender."""
    connected: int = 0
    """Users who are connected now."""
    there: int = 0
    """Users who were connected at least once."""
    sent: int = 0
    refused: int = 0
    """Sent messages that the server refused."""
    last_ack: float = 0.0
    """The time of the last acknowledgement, by `time.perf_counter`."""
    delivered: int = 0
    expected: int = 0
    """Deliveries of acknowledged messages that must arrive."""
    lost: int = 0
    """Expected deliveries that did not arrive."""
    reconnects: int = 0
    twice: int = 0
    out_of_order: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def unanswered(self) -> int:
        return self.sent - self.ack.count - self.refused
