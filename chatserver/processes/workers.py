"""Several servers on one machine that share its ports. The kernel distributes connections among them.

Each worker is a node like any other. The parent runs the parts that exist once: the relay, and the
embedded MongoDB.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from ..api.http import bind
from ..mongo import Mongo
from ..mongo.schema import version_of
from ..settings import Settings
from .child import ORPHAN_S, Child, stop_relay

log = structlog.get_logger(__name__)

FINISH_S = 15.0
"""Seconds that a worker may need beyond `drain_s` to complete accepted requests."""


async def serve_workers(
    settings: Settings,
    count: int,
    *,
    mongo_url: str,
    started: Callable[[], None],
    waits_for: Callable[[str], None],
) -> None:
    """Runs `count` workers until cancelled. Calls `started` when all of them listen.

    A worker that dies is restarted. When stopped, all drain at the same time, and `waits_for` is called with
    what the stop waits for. Raises OSError if another program uses one of the ports, and NewerSchema and
    PyMongoError.
    """
    await _free(settings.host, {settings.port, settings.ws_port})
    # The workers would refuse, too, but each again and again.
    mongo = Mongo(mongo_url, settings.mongo_database)
    try:
        await version_of(mongo)
    finally:
        await mongo.close()
    env = {"MONGO_URL": mongo_url, "WEBHOOK_RELAY": "off"}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chatserver-")))
        relay = Child("relay", {"MONGO_URL": mongo_url}, metrics_socket=folder / "relay")
        # Stopped after the workers, so that webhooks of their last acknowledged changes are sent, too.
        stack.push_async_callback(stop_relay, relay, waits_for)
        sockets = [folder / f"worker-{number}" for number in range(1, count + 1)]
        stop_s = settings.drain_s + FINISH_S
        workers = [Child("worker", env, metrics_socket=socket, stop_s=stop_s) for socket in sockets]
        stack.push_async_callback(_stop, workers)
        stack.callback(waits_for, f"{count} workers to let their clients go ({stop_s:g} s at most)")
        for worker in workers:
            worker.start()
        while not all(socket.exists() for socket in sockets):  # noqa: ASYNC110  no event announces a file
            await asyncio.sleep(0.05)
        if settings.webhooks and settings.webhook_relay:
            relay.start()
        log.info("workers listen", workers=count, port=settings.port, ws_port=settings.ws_port)
        started()
        await asyncio.Event().wait()


async def _stop(workers: list[Child]) -> None:
    await asyncio.gather(*[worker.stop() for worker in workers])


async def _free(hosts: Sequence[str], ports: set[int]) -> None:
    """Raises OSError if a port is in use. Workers can share a port even with those of another server, which
    would silently get half of our clients."""
    # Workers of a parent that was killed exit within ORPHAN_S.
    end = time.monotonic() + ORPHAN_S + 1
    while True:
        try:
            for port in ports:
                for bound in bind(hosts, port):
                    bound.close()
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)
        else:
            return
