"""Servers with a relay beside them: what they log of it, and what they show."""

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
"""Nothing listens there."""
Of = Callable[[ChatServer], People]


def lines(server: ChatServer, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def children(server: ChatServer) -> list[int]:
    return [line["pid"] for line in lines(server, "child.started")]


async def metrics(server: ChatServer) -> dict[str, float]:
    """Every sample by its name and labels; the exposition is one that Prometheus takes."""
    return samples(await scrape(server))


async def ready(server: ChatServer, within: float = PATIENCE_S) -> None:
    """The relay beside the server is at work."""
    end = time.monotonic() + within
    while (await metrics(server)).get("chat_webhook_relay_ready") != 1:
        assert time.monotonic() < end, server.log
        await asyncio.sleep(0.05)
