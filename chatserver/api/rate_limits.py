"""Rate limits: a token bucket per user and per thing that is limited."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass

from ..errors import RateLimited

BUCKETS = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` every `per` seconds, and five times as many at once after a silence: a client that
    comes back has much to send and to ask for."""

    count: int
    per: float = 1.0

    @property
    def burst(self) -> int:
        return 5 * self.count


class Limits:
    """With `on` False no rate is too high (load tests).

    `sockets`: those that a user may have at once, 0 for any number; `stale_s`: after how long one
    that is dead is known to be.
    """

    def __init__(self, *, on: bool, sockets: int, stale_s: float) -> None:
        self._on = on
        self._sockets = sockets
        self._stale_s = stale_s
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def one_more(self, sockets: int) -> None:
        """Let a user have another socket than these. Raises RateLimited, with the seconds after which
        there is room again if only dead ones were in the way."""
        if self._sockets and sockets >= self._sockets:
            raise RateLimited(self._stale_s, f"A user has at most {self._sockets} connections.")

    def spend(self, user_id: str, what: str, rate: Rate) -> None:
        """Take one token. Raises RateLimited, with the seconds until there is one."""
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
