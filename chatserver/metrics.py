"""What operators watch, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _Done:
    """What a door did under one name."""

    __slots__ = ("codes", "in_bucket", "seconds")

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.in_bucket = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class Metrics:
    """One registry per server. `observe` what doors did; `watch` what can be asked at any time.

    Counted plainly, and put in Prometheus' form when asked for: each of its own counters is a lock and
    several calls, on every event.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._done: dict[tuple[str, str], _Done] = {}
        self._watched: list[tuple[str, str, Callable[[], float]]] = []
        self._registry.register(self)

    def observe(self, door: str, name: str, code: str, seconds: float) -> None:
        """`name` is a row of a table, never what a caller made up: it becomes a time series."""
        done = self._done.get((door, name))
        if done is None:
            done = self._done[door, name] = _Done()
        done.codes[code] = done.codes.get(code, 0) + 1
        done.in_bucket[bisect_left(BUCKETS, seconds)] += 1
        done.seconds += seconds

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        self._watched.append((name, what, read))

    def collect(self) -> Iterable[Metric]:
        answered = CounterMetricFamily(
            "chat_requests_total",
            "Events and requests answered, by door, name and code (OK or an error code).",
            labels=["door", "name", "code"],
        )
        took = HistogramMetricFamily(
            "chat_request_seconds",
            "From arrival to answer, in seconds, by door and name.",
            labels=["door", "name"],
        )
        bounds = [*map(str, BUCKETS), "+Inf"]
        for (door, name), done in self._done.items():
            for code, count in done.codes.items():
                answered.add_metric([door, name, code], count)
            up_to = list(zip(bounds, accumulate(done.in_bucket), strict=True))
            took.add_metric([door, name], up_to, done.seconds)
        yield answered
        yield took
        for name, what, read in self._watched:
            gauge = GaugeMetricFamily(name, what)
            gauge.add_metric([], read())
            yield gauge

    async def exposition(self) -> bytes:
        return generate_latest(self._registry)
