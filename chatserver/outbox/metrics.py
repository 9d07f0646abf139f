"""What operators watch of the webhooks, for Prometheus: what a relay did, and what waits for one."""

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
"""How it is counted what became of an attempt."""
DEAD = "dead"
"""An event that was given up."""
RELAY = "chat_webhook_relay"
"""What its families begin with that every process has: the server beside it has them, too."""


class RelayMetrics(Families):
    """What a relay did. No server has these families: it appends those of the relay beside it."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        super().__init__(RELAY)
        # From the beginning at nought: the first failure would not be seen as a rise otherwise.
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
            "Attempts to deliver an event (delivered, failed), and events given up (dead).",
            ("endpoint", "outcome"),
            lambda: self._deliveries,
        )
        self.histograms(
            "chat_webhook_attempt_seconds",
            "From the begin of an attempt to its end, by endpoint.",
            "endpoint",
            self._took,
        )
        self.histograms(
            "chat_webhook_delay_seconds",
            "From the change to the delivery of its event, by endpoint.",
            "endpoint",
            self._delays,
        )

    def observe(self, endpoint: str, outcome: str, seconds: float, delay_s: float) -> None:
        """`outcome`: one of ATTEMPTS; or DEAD, which is no attempt. `delay_s`: since the change."""
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
            "chat_webhook_in_flight", "Deliveries under way, by endpoint.", "endpoint", in_flight
        )
        self.gauge(
            f"{RELAY}_ready",
            "1 while the relay hears of new events and has its share of the work.",
            lambda: float(ready()),
        )
        self.gauge(f"{RELAY}_partitions", "This relay's share of the work, in 16ths.", partitions)


class WaitingMetrics:
    """What waits, is late or was given up, by endpoint, as the database has it: whether or not a relay
    runs, and the same on every node."""

    def __init__(self, mongo: Mongo, endpoints: Sequence[str]) -> None:
        self._mongo = mongo
        self._backlog = Backlog(mongo)
        self._endpoints = endpoints

    async def exposition(self) -> bytes:
        """Also of endpoints that are configured no more while events wait for them.

        Raises PyMongoError.
        """
        names = sorted({*self._endpoints, *await self._backlog.names()})
        registry = CollectorRegistry()
        gauges = [
            Gauge(name, what, ["endpoint"], registry=registry)
            for name, what in {
                "chat_webhook_pending": f"Events that wait, counted up to {COUNT_LIMIT}.",
                "chat_webhook_oldest_seconds": "The age of the oldest event that waits; 0: none does.",
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
