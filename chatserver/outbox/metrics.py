"""Prometheus metrics of webhooks: the work of one relay, and the backlog in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from ..clock import now
from ..mongo import Mongo
from ..observability.metrics import SECONDS, Families, Histograms, Labels
from .admin.backlog import COUNT_LIMIT, Backlog

DELAYS = (*SECONDS, 30.0, 60.0, 300.0, 1800.0, 3600.0, 6 * 3600.0, 24 * 3600.0)
ATTEMPTS = {"delivered": "delivered", "failed": "failed", "gone": "failed"}
"""The label `outcome` for each outcome of an attempt."""
DEAD = "dead"
"""The label `outcome` of an event that was given up."""
RELAY = "chat_webhook_relay"
"""The prefix of the relay's process metrics. The server appends the relay's metrics to its own, and has
process metrics under other names."""


class RelayMetrics(Families):
    """The work of one relay. The server beside it appends these families to its own and defines none of them."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__(RELAY)
        # Start at 0: otherwise Prometheus would not see the first failure as an increase.
        self._deliveries: dict[Labels, float] = {
            (endpoint, outcome): 0
            for endpoint in endpoints
            for outcome in (*ATTEMPTS.values(), DEAD)
        }
        self._took = Histograms()
        self._delays = Histograms(DELAYS)
        for endpoint in endpoints:
            self._took[endpoint], self._delays[endpoint]
        self.counters(
            "chat_webhook_deliveries_total",
            "Delivery attempts (delivered, failed) and events given up (dead), by endpoint.",
            ("endpoint", "outcome"),
            lambda: self._deliveries,
        )
        self.histograms(
            "chat_webhook_attempt_seconds",
            "Duration of a delivery attempt, by endpoint.",
            "endpoint",
            self._took,
        )
        self.histograms(
            "chat_webhook_delay_seconds",
            "Time from the change to the delivery of its event, by endpoint.",
            "endpoint",
            self._delays,
        )

    def observe(self, endpoint: str, outcome: str, seconds: float, delay_s: float) -> None:
        """`outcome`: a key of ATTEMPTS; or DEAD, which is no attempt. `delay_s`: time since the change."""
        self._deliveries[endpoint, ATTEMPTS.get(outcome, DEAD)] += 1
        if outcome in ATTEMPTS:
            self._took[endpoint].observe(seconds)
        if outcome == "delivered":
            self._delays[endpoint].observe(max(0.0, delay_s))

    def watch(
        self,
        in_flight: Callable[[], Mapping[Labels, float]],
        ready: Callable[[], bool],
        partitions: Callable[[], int],
    ) -> None:
        self.gauges(
            "chat_webhook_in_flight", "Deliveries in progress, by endpoint.", "endpoint", in_flight
        )
        self.gauge(
            f"{RELAY}_ready",
            "1 while the relay holds its lease and follows the new events of its partitions.",
            lambda: float(ready()),
        )
        self.gauge(f"{RELAY}_partitions", "Partitions of this relay, of 16.", partitions)


class WaitingMetrics:
    """Pending, late and dead events by endpoint, read from the database: the same on every node, whether or
    not a relay runs."""

    def __init__(self, mongo: Mongo, endpoints: Sequence[str]) -> None:
        self._mongo = mongo
        self._backlog = Backlog(mongo)
        self._endpoints = endpoints

    async def exposition(self) -> bytes:
        """The metrics as text. Endpoints that are no longer configured are included while they have events due.

        Raises PyMongoError.
        """
        names = sorted({*self._endpoints, *await self._backlog.names()})
        registry = CollectorRegistry()
        gauges = [
            Gauge(name, what, ["endpoint"], registry=registry)
            for name, what in {
                "chat_webhook_pending": f"Events due, counted up to {COUNT_LIMIT}.",
                "chat_webhook_oldest_seconds": "Age of the oldest event that is due; 0 if none is.",
                "chat_webhook_dead": f"Dead letters, counted up to {COUNT_LIMIT}.",
            }.items()
        ]
        for name, values in zip(names, await asyncio.gather(*map(self._of, names)), strict=True):
            for gauge, value in zip(gauges, values, strict=True):
                gauge.labels(name).set(value)
        return generate_latest(registry)

    async def _of(self, endpoint: str) -> tuple[float, float, float]:
        pending, oldest, dead = await asyncio.gather(
            self._backlog.count(endpoint),
            self._backlog.oldest(endpoint),
            self._mongo.deadletters.count_documents({"endpoint": endpoint}, limit=COUNT_LIMIT),
        )
        lag = (now() - oldest).total_seconds() if oldest else 0.0
        return pending, max(0.0, lag), dead
