"""Rate limits: a token bucket per user and per event or request."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from ..errors import RateLimited
from ..observability.metrics import Families

BUCKETS = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` every `per` seconds, with bursts of five times as many: a client that reconnects has much to
    send and to request."""

    count: int
    per: float = 1.0

    @property
    def burst(self) -> int:
        return 5 * self.count


class Limits:
    """Limits the rates and the number of sockets of each user.

    `on`: False switches the rate limits off (for load tests). `sockets`: maximum per user, 0 for no limit.
    `stale_s`: seconds until a dead socket is detected.
    """

    def __init__(self, *, on: bool, sockets: int, stale_s: float) -> None:
        self._on = on
        self._sockets = sockets
        self._stale_s = stale_s
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def watch(self, metrics: Families) -> None:
        metrics.memory("rate limits", lambda: len(self._buckets), BUCKETS)

    def one_more(self, sockets: int) -> None:
        """Raises RateLimited if a user with this many sockets may not open another one. After `retryAfter`,
        the user's dead sockets have been detected."""
        if self._sockets and sockets >= self._sockets:
            raise RateLimited(
                self._stale_s, f"A user may have at most {self._sockets} connections."
            )

    def spend(self, user_id: str, what: str, rate: Rate) -> None:
        """Takes one token. Raises RateLimited, with the seconds until the next one."""
        if not self._on:
            return
        at = time.monotonic()
        key = (user_id, what)
        tokens, since = self._buckets.get(key, (float(rate.burst), at))
        speed = rate.count / rate.per
        tokens = min(rate.burst, tokens + (at - since) * speed)
        if tokens < 1:
            self._buckets[key] = (tokens, at)
            raise RateLimited(math.ceil((1 - tokens) / speed * 1000) / 1000)
        self._buckets[key] = (tokens - 1, at)
        self._buckets.move_to_end(key)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
