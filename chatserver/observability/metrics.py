"""Metrics, in the format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ..errors import Internal

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = str | tuple[str, ...]
Number = Callable[[], float]
Numbers = Callable[[], Mapping[Any, float]]
"""Numbers by the value of one label, or by the values of several."""


class Histogram:
    """A distribution. `observe` takes 0.13 µs; that of prometheus-client, with its lock, takes 0.76 µs."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        up_to = zip(bounds, accumulate(self._counts), strict=True)
        family.add_metric(labels, list(up_to), self._sum)


class Histograms(dict[Labels, Histogram]):
    """A histogram per label value. Values must come from a fixed set, because each is a time series."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, labels: Labels) -> Histogram:
        made = self[labels] = Histogram(self._bounds)
        return made


class Families:
    """Families of metrics. Their values are read when Prometheus scrapes.

    The code counts in plain numbers, because a metric of prometheus-client costs a lock and several calls
    per event. `process`: the prefix of the metrics about the process itself (CPU, memory).
    """

    def __init__(self, process: str = "") -> None:
        self._registry = CollectorRegistry()
        self._families: list[Callable[[], Metric]] = []
        self._stores: dict[str, tuple[Number, float | None]] = {}
        self._registry.register(self)
        ProcessCollector(process, registry=self._registry)
        self.gauges(
            f"{process or 'chat'}_memory_entries",
            "Entries in memory, by store.",
            "store",
            lambda: {store: read() for store, (read, _) in self._stores.items()},
        )
        self.gauges(
            f"{process or 'chat'}_memory_bound",
            "The most entries that a store can have, if that is a fixed number.",
            "store",
            lambda: {store: at_most for store, (_, at_most) in self._stores.items() if at_most},
        )

    def gauge(self, name: str, what: str, read: Number) -> None:
        """A value that goes up and down."""
        self._families.append(lambda: _filled(GaugeMetricFamily(name, what), read()))

    def gauges(self, name: str, what: str, by: Labels, read: Numbers) -> None:
        """A gauge per value of the labels `by`."""
        self._families.append(
            lambda: _filled(GaugeMetricFamily(name, what, labels=_each(by)), read())
        )

    def counter(self, name: str, what: str, read: Number) -> None:
        """A value that only grows while the process lives. `name` ends in `_total`."""
        self._families.append(lambda: _filled(CounterMetricFamily(name, what), read()))

    def counters(self, name: str, what: str, by: Labels, read: Numbers) -> None:
        self._families.append(
            lambda: _filled(CounterMetricFamily(name, what, labels=_each(by)), read())
        )

    def histogram(self, name: str, what: str, histogram: Histogram) -> None:
        self.histograms(name, what, (), {(): histogram})

    def histograms(
        self, name: str, what: str, by: Labels, histograms: Mapping[Any, Histogram]
    ) -> None:
        def family() -> Metric:
            made = HistogramMetricFamily(name, what, labels=_each(by))
            for labels, histogram in histograms.items():
                histogram.add_to(made, _each(labels))
            return made

        self._families.append(family)

    def memory(self, store: str, entries: Number, at_most: float | None) -> None:
        """Register what lives in memory as long as the process: the number of its entries, and their bound.

        `at_most` None: an entry ends with a socket, with a room or after a time. docs/operations.md says which.
        """
        self._stores[store] = entries, at_most

    def collect(self) -> Iterable[Metric]:
        return [family() for family in self._families]

    async def exposition(self) -> bytes:
        return generate_latest(self._registry)


class Metrics(Families):
    """The metrics of a server. Doors `observe` each event and request that they answer."""

    def __init__(self) -> None:
        super().__init__()
        self._answered: dict[Labels, float] = {}
        self._took = Histograms()
        self.counters(
            "chat_requests_total",
            "Events and requests answered, by door, name and code (OK or an error code).",
            ("door", "name", "code"),
            lambda: self._answered,
        )
        self.histograms(
            "chat_request_duration_seconds",
            "Time from the arrival of an event or request to its answer.",
            ("door", "name"),
            self._took,
        )

    def expect(self, door: str, names: Iterable[str]) -> None:
        """Starts the counters of internal errors at 0. A counter that first appears as 1 shows no increase,
        so the first error would raise no alert."""
        for name in names:
            self._answered.setdefault((door, name, Internal.code), 0)

    def observe(self, door: str, name: str, code: str, seconds: float) -> None:
        """`name` comes from a table of ours, never from a caller, because it becomes a time series."""
        key = (door, name, code)
        self._answered[key] = self._answered.get(key, 0) + 1
        self._took[door, name].observe(seconds)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: float | Mapping[Any, float]
) -> Metric:
    if isinstance(values, Mapping):
        for labels, value in values.items():
            family.add_metric(_each(labels), value)
    else:
        family.add_metric([], values)
    return family


def _each(labels: Labels) -> Sequence[str]:
    return (labels,) if isinstance(labels, str) else labels
