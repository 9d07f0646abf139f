"""What operators watch of the webhooks, for Prometheus: what a relay did, and what waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .clock import now
from .mongo import Mongo
from .outbox.backlog import COUNT_MOST, Backlog

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ATTEMPTS = {"delivered": "delivered", "failed": "failed", "gone": "failed"}
"""How it is counted what became of an attempt."""
DEAD = "dead"
"""An event that was given up."""


class RelayMetrics:
    """What a relay did. No server has these families: it appends those of the relay beside it."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._registry = CollectorRegistry()
        self._deliveries = Counter(
            "chat_webhook_deliveries_total",
            "Attempts to deliver an event (delivered, failed), and events given up (dead).",
            ["endpoint", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "chat_webhook_seconds",
            "From the begin of an attempt to its end, in seconds, by endpoint.",
            ["endpoint"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "chat_webhook_in_flight",
            "Deliveries under way, by endpoint.",
            ["endpoint"],
            registry=self._registry,
        )
        # From the beginning at nought: the first failure would not be seen as a rise otherwise.
        self._counters = {
            (endpoint, outcome): self._deliveries.labels(endpoint, outcome)
            for endpoint in endpoints
            for outcome in (*ATTEMPTS.values(), DEAD)
        }
        self._histograms = {endpoint: self._seconds.labels(endpoint) for endpoint in endpoints}

    def observe(self, endpoint: str, outcome: str, seconds: float) -> None:
        """`outcome`: one of ATTEMPTS; or DEAD, which is no attempt."""
        self._counters[endpoint, ATTEMPTS.get(outcome, DEAD)].inc()
        if outcome in ATTEMPTS:
            self._histograms[endpoint].observe(seconds)

    def watch_in_flight(self, endpoint: str, read: Callable[[], float]) -> None:
        self._in_flight.labels(endpoint).set_function(read)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        gauge = Gauge(
            "chat_webhook_relay_ready",
            "1 while the relay hears of new events and has its share of the work.",
            registry=self._registry,
        )
        gauge.set_function(lambda: float(ready()))

    async def exposition(self) -> bytes:
        return generate_latest(self._registry)


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
                "chat_webhook_pending": f"Events that wait, counted up to {COUNT_MOST}.",
                "chat_webhook_lag_seconds": "The age of the oldest event that waits; 0: none does.",
                "chat_webhook_dead": f"Dead letters, counted up to {COUNT_MOST}.",
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
            self._mongo.deadletters.count_documents({"endpoint": endpoint}, limit=COUNT_MOST),
        )
        lag = (now() - oldest).total_seconds() if oldest else 0.0
        return pending, max(0.0, lag), dead
