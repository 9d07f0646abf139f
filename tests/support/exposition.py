"""The metrics of a server, read from /metrics."""

from __future__ import annotations

import asyncio

import aiohttp
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from .patience import PATIENCE_S
from .servers import ChatServer


async def scrape(server: ChatServer) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{server.rest}/metrics") as answer:
        assert answer.status == 200
        return await answer.text()


def families(text: str) -> dict[str, Metric]:
    """Returns the families by their names in the exposition."""
    named = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(named) == len(set(named)), "no family comes twice"
    return dict(zip(named, text_string_to_metric_families(text), strict=True))


def samples(text: str) -> dict[str, float]:
    """Returns the samples by name and label values, in the order of the labels' names."""
    return {
        sample.name
        + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


def stores(text: str, process: str = "chat") -> tuple[dict[str, float], dict[str, float]]:
    """Returns the entries and the bounds of the stores in memory."""
    of = families(text)
    entries, bounds = (
        {sample.labels["store"]: sample.value for sample in of[f"{process}_memory_{what}"].samples}
        for what in ("entries", "bound")
    )
    return entries, bounds


async def connections(server: ChatServer) -> int:
    """Returns the number of sockets of a server, over all transports."""
    now = samples(await scrape(server))
    return int(sum(now[f"chat_connections {transport}"] for transport in ("polling", "websocket")))


async def connections_become(server: ChatServer, number: int, within: float = PATIENCE_S) -> None:
    """Waits until the server has `number` sockets."""
    async with asyncio.timeout(within):
        while True:
            if await connections(server) == number:
                return
            await asyncio.sleep(0.02)
