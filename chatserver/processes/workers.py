"""Several servers on one machine that share its ports: the kernel deals out connections to them.

Each worker is a node like any other. What there is one of is the parent's: the relay, and the embedded
MongoDB.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from ..settings import Settings
from .child import ORPHAN_S, Child

log = structlog.get_logger(__name__)

FINISH_S = 15.0
"""What a worker may need beyond `drain_s`, to finish what it has taken in."""


async def serve_workers(
    settings: Settings, count: int, *, mongo_url: str, started: Callable[[], None]
) -> None:
    """Run `count` workers until cancelled; `started` is called when all of them listen.

    One that dies is started again. On the way out all drain at the same time. Raises OSError when
    somebody else has one of the ports.
    """
    await _free(settings.host, {settings.port, settings.ws_port})
    env = {"MONGO_URL": mongo_url, "WEBHOOK_RELAY": "off"}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chatserver-")))
        relay = Child("relay", {"MONGO_URL": mongo_url}, metrics_socket=folder / "relay")
        # Ended after the workers, so that what they acknowledged at last is told as well.
        stack.push_async_callback(relay.stop)
        sockets = [folder / f"worker-{number}" for number in range(1, count + 1)]
        stop_s = settings.drain_s + FINISH_S
        workers = [Child("worker", env, metrics_socket=socket, stop_s=stop_s) for socket in sockets]
        stack.push_async_callback(_stop, workers)
        for worker in workers:
            worker.start()
        while not all(socket.exists() for socket in sockets):  # noqa: ASYNC110  no event tells of a file
            await asyncio.sleep(0.05)
        if settings.webhooks and settings.webhook_relay:
            relay.start()
        log.info("workers listen", workers=count, port=settings.port, ws_port=settings.ws_port)
        started()
        await asyncio.Event().wait()


async def _stop(workers: list[Child]) -> None:
    await asyncio.gather(*[worker.stop() for worker in workers])


async def _free(host: str, ports: set[int]) -> None:
    """Raises OSError when a port is taken: workers may share one, also with those of another server,
    who would get half of our clients without a word."""
    # The workers of a parent that was killed are about to go.
    end = time.monotonic() + ORPHAN_S + 1
    while True:
        try:
            for port in ports:
                await _bind(host, port)
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)
        else:
            return


async def _bind(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    taken = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    taken.close()
    await taken.wait_closed()
