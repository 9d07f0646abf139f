"""What was measured: times, counts, and what went wrong."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

PER_E = 50
"""Buckets for each factor of e: what is read from them is right to a hundredth."""
FINEST_S = 1e-6
LAST = int(math.log(1000 / FINEST_S) * PER_E)


class Times:
    """Durations, in a room that does not grow with their number."""

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
        """Seconds within which this share of them was; 0 when there are none."""
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
    """From the moment a message is due to its acknowledgement."""
    delivery: Times = field(default_factory=Times)
    """From the same moment to each member who hears it, the sender too."""
    connected: int = 0
    """At this moment."""
    there: int = 0
    """Users who have been connected at all."""
    sent: int = 0
    refused: int = 0
    """Of those that were sent."""
    last_ack: float = 0.0
    """When there was one, by `time.perf_counter`."""
    delivered: int = 0
    expected: int = 0
    """Deliveries of what was acknowledged."""
    lost: int = 0
    """Of those that were expected."""
    reconnects: int = 0
    twice: int = 0
    out_of_order: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def unanswered(self) -> int:
        return self.sent - self.ack.count - self.refused
