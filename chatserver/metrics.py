"""What operators watch, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """One registry per server. `observe` what doors did; `watch` what can be asked at any time."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._done = Counter(
            "chat_requests_total",
            "Events and requests answered, by door, name and code (OK or an error code).",
            ["door", "name", "code"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "chat_request_seconds",
            "From arrival to answer, in seconds, by door and name.",
            ["door", "name"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._watched: list[tuple[str, str, Callable[[], float]]] = []
        self._registry.register(self)

    def observe(self, door: str, name: str, code: str, seconds: float) -> None:
        """`name` is a row of a table, never what a caller made up: it becomes a time series."""
        counter = self._counters.get((door, name, code))
        if counter is None:
            counter = self._counters[door, name, code] = self._done.labels(door, name, code)
        histogram = self._histograms.get((door, name))
        if histogram is None:
            histogram = self._histograms[door, name] = self._seconds.labels(door, name)
        counter.inc()
        histogram.observe(seconds)

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        self._watched.append((name, what, read))

    def collect(self) -> Iterable[Metric]:
        for name, what, read in self._watched:
            gauge = GaugeMetricFamily(name, what)
            gauge.add_metric([], read())
            yield gauge

    async def exposition(self) -> bytes:
        return generate_latest(self._registry)
