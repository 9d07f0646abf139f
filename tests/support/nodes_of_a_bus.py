"""Nodes with a bus that store the messages that they receive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio

from chatserver.realtime.bus import Bus

from .patience import PATIENCE_S

Joining = Callable[..., Awaitable["Node"]]


class Node:
    """One of several nodes on a bus."""

    def __init__(self, url: str, prefix: str = "chat:") -> None:
        self.received: list[tuple[str, bytes]] = []
        self.missed = 0
        self.lost = 0
        self.rounds: list[float] = []
        self.bus = Bus(
            url,
            prefix=prefix,
            deliver=self.receive,
            missed=self.has_missed,
            lost=self.has_lost,
            went_round=self.rounds.append,
        )

    def receive(self, channel: str, message: bytes) -> None:
        if message == b"poison":
            raise ValueError("the receiver fails")
        self.received.append((channel, message))

    def has_missed(self) -> None:
        self.missed += 1

    def has_lost(self) -> None:
        self.lost += 1

    async def says(self, channel: str, message: bytes, within: float = PATIENCE_S) -> int:
        """Publish. Returns the number of connections that receive the message."""
        received: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.bus.publish(channel, message, received.set_result)
        return await asyncio.wait_for(received, within)


async def until(true: Callable[[], object], within: float = PATIENCE_S) -> float:
    """Wait until the condition is true. Returns the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within, f"not within {within} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Joining]:
    """Connect a node to a bus: `await node(url)`."""
    nodes: list[Node] = []

    async def join(url: str, prefix: str = "chat:") -> Node:
        nodes.append(Node(url, prefix))
        await nodes[-1].bus.start()
        return nodes[-1]

    yield join
    for node in nodes:
        await node.bus.close()
