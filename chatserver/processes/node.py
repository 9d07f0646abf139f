"""The composition root of a node: builds every part once, in order, and closes them in reverse."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from aiohttp import web

from .. import json_codec, tasks
from ..api.auth import Tokens
from ..api.health import Health
from ..api.http import (
    REQUEST_ID,
    WORKING,
    Port,
    errors,
    listen,
    private_app,
    refusal_response,
    request_id,
)
from ..api.internal.door import InternalDoor
from ..api.playground.door import PlaygroundDoor
from ..api.playground.origin import origins
from ..api.rate_limits import Limits
from ..api.reference import door as docs
from ..api.rest.door import RestDoor
from ..api.sockets.door import Door
from ..errors import Unavailable
from ..mongo import Mongo, Operations
from ..mongo.schema import Migration
from ..observability.metrics import Histogram, Metrics
from ..outbox.admin.admin import OutboxAdmin
from ..outbox.metrics import WaitingMetrics
from ..realtime import RealtimeServer, attach_acceptor
from ..settings import Settings
from . import chat_core, gc_tuning
from .child import Child, stop_relay
from .instrumentation import begin_tracing, watch_process, watch_sockets
from .worker_metrics import WorkerMetrics

log = structlog.get_logger(__name__)

MAX_REQUEST = 4 * 1024 * 1024
SLOW_S = 1.0
"""A start that takes longer opens the ports before the node is ready, for the probes. A quick one does not: load
balancers try another node when a port is closed, but pass on a 503 to a request that they may not repeat."""
NOTICE = 0.3
"""The fraction of `drain_s` in which load balancers learn from /ready that the server is stopping. New clients
are still accepted then: balancers still send them here, and a refusal would be a visible failure."""
FINISH_S = 10.0
"""How long accepted requests have when the node stops."""
CONNECT_S = 10.0
"""How long a client may take to authenticate."""


async def serve(
    settings: Settings,
    *,
    mongo_url: str,
    started: Callable[[], None],
    waits_for: Callable[[str], None],
    metrics_socket: Path | None = None,
) -> None:
    """Serves until cancelled. Calls `started` when the node is ready. Raises NewerSchema, PyMongoError, OSError.

    `metrics_socket`: set for a worker; the Unix socket on which it serves its own metrics. Workers share
    the ports, and the kernel distributes connections among them. A polling client needs many connections
    to one process, so workers serve WebSockets only.

    A stop takes `drain_s` at most, and then the time to complete accepted requests and events. First /ready
    reports it; once balancers know, new clients are refused and connected ones are disconnected one after
    another. When nobody is connected, nothing is waited for. `waits_for` is called with what the stop waits
    for.
    """
    async with AsyncExitStack() as stack:
        node = secrets.token_hex(8)
        tracing = begin_tracing(settings, "chatserver", node)
        if tracing:
            # Closed last, so that spans that end during the stop are sent, too.
            stack.push_async_callback(tracing.close)
        metrics = Metrics()
        stack.callback(watch_process(metrics, "chat").close)
        operations = Operations(settings.database_timeout_s)
        mongo = Mongo(mongo_url, settings.mongo_database, operations)
        mongo.watch(metrics)
        stack.push_async_callback(mongo.close)
        stack.push_async_callback(tasks.end, tasks.keep("watch stalls", operations.watch_stalls))

        migration = Migration(mongo)
        own = WorkerMetrics(metrics_socket.parent) if metrics_socket else metrics
        health = Health(mongo, [own.exposition], starting=lambda: migration.progress)
        ports = {
            number: Port(settings.host, number, shared=metrics_socket is not None)
            for number in (settings.ws_port, settings.port)
        }
        built = asyncio.Event()
        probed = asyncio.create_task(_answer_probes(stack, ports, settings, health, built))
        stack.push_async_callback(tasks.end, probed)
        await migration.run()
        migration.progress = "starts the chat"

        relay = Child("relay", {"MONGO_URL": mongo_url})
        # Stopped after the chat, so that webhooks of the last acknowledged changes are sent, too.
        stack.push_async_callback(stop_relay, relay, waits_for)
        rooms, chat = await chat_core.build(stack, settings, mongo, node, metrics)
        tokens = Tokens(
            settings.auth_jwt_secret,
            issuer=settings.auth_jwt_issuer,
            audience=settings.auth_jwt_audience,
            jwks_url=settings.auth_jwks_url,
            leeway_s=settings.auth_leeway_s,
        )
        limits = Limits(
            on=settings.rate_limits,
            sockets=settings.sockets_per_user,
            stale_s=settings.ping_interval_s + settings.ping_timeout_s,
        )
        stack.push_async_callback(tokens.close)
        tokens.watch(metrics)
        limits.watch(metrics)
        door = Door(
            chat,
            rooms,
            tokens,
            limits,
            metrics,
            tracing,
            timeout_s=settings.request_timeout_s,
            max_packet=settings.max_packet,
        )
        stack.push_async_callback(door.close)
        delivery = Histogram()
        sockets = _sockets(settings, delivery, transports=["websocket"] if metrics_socket else None)
        attach_acceptor(sockets, door, metrics.memory)
        watch_sockets(metrics, sockets, delivery)

        waiting = WaitingMetrics(mongo, [endpoint.name for endpoint in settings.webhooks])
        private = private_app(
            settings.request_timeout_s, settings.max_packet, tracing, client_max_size=MAX_REQUEST
        )
        RestDoor(chat, tokens, limits, metrics, settings.internal_api_secret).add_to(private.router)
        outbox = OutboxAdmin(mongo, settings.webhooks)
        InternalDoor(chat, outbox, metrics, settings.internal_api_secret).add_to(private.router)
        health.add_private_to(private.router)
        if settings.docs:
            docs.add_to(private.router)
        if settings.playground:
            PlaygroundDoor(chat, metrics, settings).add_to(private.router)
        public = private
        if settings.ws_port != settings.port:
            public = web.Application(middlewares=[errors])
            health.add_public_to(public.router)
        sockets.attach(public)

        built.set()
        await probed
        # First the port for clients, because /ready is on the other one.
        if public is not private:
            await _serve(stack, ports[settings.ws_port], public, settings)
        health.started([waiting.exposition, relay.exposition])
        await _serve(stack, ports[settings.port], private, settings)
        if metrics_socket:
            await Health(mongo, [metrics.exposition]).listen(stack, metrics_socket)
        # The ports stay open during the drain. Clients that poll or connect through a balancer need new
        # connections to disconnect properly, and new clients get a 503 that sends them elsewhere.
        stack.push_async_callback(_drain, sockets, private, settings.drain_s, waits_for)
        stack.callback(chat.presence.drain)
        stack.callback(health.drain)
        log.info("listening", host=settings.host, port=settings.port, ws_port=settings.ws_port)
        gc_tuning.settle()
        if settings.webhooks and settings.webhook_relay:
            relay.start()
        started()
        await asyncio.Event().wait()


async def _drain(
    sockets: RealtimeServer,
    private: web.Application,
    seconds: float,
    waits_for: Callable[[str], None],
) -> None:
    notice_s = seconds * NOTICE
    move_s = seconds - notice_s
    if seconds and sockets.eio.sockets:
        waits_for(f"load balancers to notice ({notice_s:g} s at most)")
        await sockets.empty(notice_s)
    if seconds and (clients := len(sockets.eio.sockets)):
        waits_for(f"{_count(clients, 'client')} to move to other nodes ({move_s:g} s at most)")
    await sockets.drain(move_s)
    if working := private[WORKING]:
        waits_for(f"{_count(len(working), 'request')} to be answered ({FINISH_S:g} s at most)")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _sockets(
    settings: Settings, delivery: Histogram, *, transports: list[str] | None
) -> RealtimeServer:
    return RealtimeServer(
        cors_allowed_origins=origins(settings),
        ping_interval=settings.ping_interval_s,
        ping_timeout=settings.ping_timeout_s,
        connect_timeout=min(CONNECT_S, settings.ping_interval_s / 2),
        # A larger frame closes the connection (1009). A packet over the limit in a smaller frame gets an error.
        max_http_buffer_size=json_codec.ESCAPED * settings.max_packet,
        max_payload=settings.max_packet,
        sessions_per_address=settings.sockets_per_address,
        trusted_proxies=settings.trusted_proxies,
        node=settings.node_name,
        delivered=delivery.observe,
        transports=transports,
        http_compression=False,
    )


async def _answer_probes(
    stack: AsyncExitStack,
    ports: Mapping[int, Port],
    settings: Settings,
    health: Health,
    built: asyncio.Event,
) -> None:
    """If the start takes long, serves the probes until the node is built, and refuses all other requests."""
    try:
        async with asyncio.timeout(SLOW_S):
            await built.wait()
    except TimeoutError:
        for number, port in ports.items():
            app = web.Application(middlewares=[_close, errors])
            if number == settings.port:
                health.add_private_to(app.router)
            else:
                health.add_public_to(app.router)
            app.router.add_route("*", "/{path:.*}", _not_yet)
            await _serve(stack, port, app, settings)


async def _not_yet(request: web.Request) -> web.Response:
    refused = refusal_response(Unavailable("The server is starting. Try again in some seconds."))
    refused.headers[REQUEST_ID] = request_id(request)
    return refused


@web.middleware
async def _close(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Ends the connection after the response, because the next request may be for the node."""
    response = await handler(request)
    response.force_close()
    return response


async def _serve(
    stack: AsyncExitStack, port: Port, app: web.Application, settings: Settings
) -> None:
    await listen(
        stack,
        app,
        port,
        shutdown_timeout=FINISH_S,
        # aiohttp's default is an hour, also for clients that send half a request or nothing.
        keepalive_timeout=settings.keep_alive_s,
        # A few bytes could decompress to megabytes, and a damaged body would count as our failure.
        auto_decompress=False,
    )
