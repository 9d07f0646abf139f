"""Rate limits: a token bucket per user and per event or request.

A request that finds a token is accepted. What it costs beyond this token may leave the bucket below zero: then the
user's next requests of the kind wait for longer. So one request of any cost is possible, and the sum is limited.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from .. import json_codec
from ..errors import RateLimited
from ..observability.metrics import Families

BUCKETS = 100_000
WEIGHT = 64 * 1024
"""Bytes of an answer that cost a token, if its operation `weighs`. A shorter answer costs none."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` every `per` seconds, with bursts of `times` as many: a client that reconnects has much to send and to
    request."""

    count: int
    per: float = 1.0
    times: int = 5

    @property
    def burst(self) -> int:
        return self.times * self.count

    def __str__(self) -> str:
        return f"{self.count:,} / {self.per:g} s, burst {self.burst:,}"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a request beyond its token: the number at `key` in the parsed request, or the length of the list there,
    divided by `per`."""

    key: str
    per: int
    apart: Rate | None = None
    """The rate of a bucket of its own, if these tokens are not taken from the bucket of the requests."""

    def of(self, request: Any) -> float:
        asked = getattr(request, self.key)
        return (asked if isinstance(asked, int) else len(asked)) / self.per


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

    def spend(
        self, user_id: str, what: str, rate: Rate, tokens: float = 1, needs: float = 1
    ) -> None:
        """Takes tokens. Raises RateLimited, with the seconds until there is one, if there are fewer than it `needs`.

        It needs 1 for a request, and 0 for what the request costs beyond that.
        """
        if not self._on:
            return
        at = time.monotonic()
        key = (user_id, what)
        left, since = self._buckets.get(key, (float(rate.burst), at))
        speed = rate.count / rate.per
        left = min(rate.burst, left + (at - since) * speed)
        if left < needs:
            self._buckets[key] = (left, at)
            raise RateLimited(math.ceil((1 - left) / speed * 1000) / 1000)
        self._buckets[key] = (left - tokens, at)
        self._buckets.move_to_end(key)
        if len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)

    def charge(self, user_id: str, what: str, rate: Rate, cost: Cost, request: Any) -> None:
        """Takes what a request costs beyond its token. Raises RateLimited."""
        if cost.apart is not None:
            self.spend(user_id, f"{what} {cost.key}", cost.apart, cost.of(request))
        else:
            self.spend(user_id, what, rate, cost.of(request), needs=0)

    def weigh(self, user_id: str, what: str, rate: Rate, answer: Any) -> json_codec.Json:
        """Takes a token for every WEIGHT of an answer. Returns the answer, encoded."""
        encoded = json_codec.encode(answer)
        if weight := len(encoded) // WEIGHT:
            self.spend(user_id, what, rate, weight, needs=-math.inf)
        return json_codec.Json(encoded)
