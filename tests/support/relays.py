"""Log lines and metrics of servers that run a relay."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from .exposition import samples, scrape
from .patience import PATIENCE_S
from .people import People
from .servers import ChatServer

NOBODY = "http://127.0.0.1:9/hooks"
"""A URL at which nothing listens."""
Of = Callable[[ChatServer], People]


def lines(server: ChatServer, event: str) -> list[dict[str, Any]]:
    # The last line may be incomplete.
    whole, _, _ = server.log.rpartition("\n")
    found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def children(server: ChatServer) -> list[int]:
    return [line["pid"] for line in lines(server, "child.started")]


async def metrics(server: ChatServer) -> dict[str, float]:
    """Returns every sample by its name and labels. The exposition must be valid for Prometheus."""
    return samples(await scrape(server))


async def ready(server: ChatServer, within: float = PATIENCE_S) -> None:
    """Waits until the server's relay is ready."""
    end = time.monotonic() + within
    while (await metrics(server)).get("chat_webhook_relay_ready") != 1:
        assert time.monotonic() < end, server.log
        await asyncio.sleep(0.05)
