"""The composition root of the relay, the process that delivers webhooks: a child of the server, or alone."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from .. import tasks
from ..api.health import Health
from ..api.http import errors, listen
from ..chat.webhook_events import WebhookEvents
from ..mongo import Mongo
from ..outbox.metrics import RELAY, RelayMetrics
from ..outbox.relay.deliveries import Retry
from ..outbox.relay.relay import Relay
from ..outbox.sinks.webhook import Webhook
from ..settings import Settings
from . import gc_tuning
from .instrumentation import begin_tracing, watch_process

log = structlog.get_logger(__name__)


async def relay(settings: Settings, *, mongo_url: str, metrics_socket: Path | None) -> None:
    """Delivers due events until cancelled.

    A child of a server serves health and metrics on the Unix socket `metrics_socket`, a standalone relay
    on HOST and PORT. When it stops, no new delivery starts, deliveries in flight are finished, and other
    relays may take over.
    """
    async with AsyncExitStack() as stack:
        tracing = begin_tracing(settings, "chatserver-relay", secrets.token_hex(8))
        if tracing:
            stack.push_async_callback(tracing.close)
        mongo = Mongo(mongo_url, settings.mongo_database)
        stack.push_async_callback(mongo.close)
        await mongo.start()

        sinks: dict[str, Webhook] = {}
        for endpoint in settings.webhooks:
            sinks[endpoint.name] = Webhook(
                endpoint,
                timeout_s=settings.webhook_timeout_s,
                concurrency=settings.webhook_concurrency,
                allow_link_local=settings.webhook_allow_link_local,
                tracing=tracing,
            )
            stack.push_async_callback(sinks[endpoint.name].close)
        metrics = RelayMetrics(list(sinks))
        relaying = Relay(
            mongo,
            settings.webhooks,
            sinks,
            WebhookEvents(mongo).event,
            Retry(
                first_s=settings.webhook_retry_first_s,
                max_s=settings.webhook_retry_max_s,
                give_up_s=settings.webhook_give_up_s,
            ),
            concurrency=settings.webhook_concurrency,
            observe=metrics.observe,
        )
        metrics.watch(
            lambda: {delivery.name: delivery.in_flight for delivery in relaying.deliveries},
            lambda: relaying.healthy,
            lambda: relaying.share,
        )
        stack.callback(watch_process(metrics, RELAY).close)
        health = Health(mongo, [metrics.exposition], {"relay": lambda: relaying.healthy})
        app = web.Application(middlewares=[errors])
        health.add_private_to(app.router)
        if metrics_socket:
            await listen(
                stack, app, partial(web.UnixSite, path=metrics_socket), shutdown_timeout=1.0
            )
        else:
            site = partial(web.TCPSite, host=settings.host, port=settings.port)
            await listen(stack, app, site, shutdown_timeout=1.0)

        running = asyncio.create_task(relaying.run())
        stack.push_async_callback(_finish, relaying, running)
        stack.callback(health.drain)
        gc_tuning.settle()
        log.info("relaying", endpoints=sorted(sinks))
        await running


async def _finish(relaying: Relay, running: asyncio.Task[None]) -> None:
    await tasks.end(running)
    await relaying.close()
