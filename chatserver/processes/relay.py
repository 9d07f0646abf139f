"""The composition root of the relay, the process that delivers events: a child of the server, or alone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from .. import tasks
from ..api.health import Health
from ..chat.webhook_events import WebhookEvents
from ..mongo import Mongo, Operations
from ..mongo.schema import Migration
from ..outbox.metrics import RELAY, RelayMetrics
from ..outbox.relay.deliveries import FINISH_S, Retry
from ..outbox.relay.relay import Relay
from ..outbox.sinks.registry import build
from ..settings import Settings
from . import gc_tuning
from .instrumentation import begin_tracing, watch_process

log = structlog.get_logger(__name__)


async def relay(
    settings: Settings,
    *,
    mongo_url: str,
    metrics_socket: Path | None,
    waits_for: Callable[[str], None],
) -> None:
    """Delivers due events until cancelled.

    A child of a server serves health and metrics on the Unix socket `metrics_socket`, a standalone relay
    on HOST and PORT. When it stops, no new delivery starts, deliveries in flight are finished, and other
    relays may take over. `waits_for` is called with what the stop waits for. Raises NewerSchema, PyMongoError, OSError.
    """
    async with AsyncExitStack() as stack:
        tracing = begin_tracing(settings, "chatserver-relay", secrets.token_hex(8))
        if tracing:
            stack.push_async_callback(tracing.close)
        operations = Operations(settings.database_timeout_s)
        mongo = Mongo(mongo_url, settings.mongo_database, operations)
        stack.push_async_callback(mongo.close)
        stack.push_async_callback(tasks.end, tasks.keep("watch stalls", operations.watch_stalls))
        migration = Migration(mongo)
        sinks = {endpoint.name: build(endpoint) for endpoint in settings.webhooks}
        metrics = RelayMetrics(list(sinks))
        relaying = Relay(
            mongo,
            sinks,
            WebhookEvents(mongo).event,
            Retry(
                first_s=settings.webhook_retry_first_s,
                max_s=settings.webhook_retry_max_s,
                give_up_s=settings.webhook_give_up_s,
            ),
            observe=metrics.observe,
            tracing=tracing,
        )
        metrics.watch(
            lambda: {delivery.name: delivery.in_flight for delivery in relaying.deliveries},
            lambda: relaying.healthy,
            lambda: relaying.share,
        )
        for deliveries in relaying.deliveries:
            deliveries.watch(metrics)
        stack.callback(watch_process(metrics, RELAY).close)
        health = Health(
            mongo,
            [metrics.exposition],
            {"relay": lambda: relaying.healthy},
            starting=lambda: migration.progress,
        )
        await health.listen(stack, metrics_socket or (settings.host, settings.port))
        await migration.run()
        health.started()

        running = asyncio.create_task(relaying.run())
        stack.push_async_callback(_finish, relaying, running, waits_for)
        stack.callback(health.drain)
        gc_tuning.settle()
        log.info("relaying", endpoints=sorted(sinks))
        await running


async def _finish(
    relaying: Relay, running: asyncio.Task[None], waits_for: Callable[[str], None]
) -> None:
    await tasks.end(running)
    if in_flight := sum(delivery.in_flight for delivery in relaying.deliveries):
        waits_for(f"{in_flight} deliveries that are in flight ({FINISH_S:g} s at most)")
    await relaying.close()
