"""Clients of the nodes in tests/support/echo_nodes.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from .echo_nodes import EchoNode
from .guests import Guest
from .patience import PATIENCE_S
from .redises import RedisServer

PREFIX = "echo:"
KEEP_FOR_S = 0.3
CALLBACK_S = 1.0


class Client(Guest):
    """A client that is connected to a node and calls the methods of its server."""

    id: str

    @classmethod
    async def at(cls, node: EchoNode, *namespaces: str) -> Client:
        client = cls()
        client.on("question", lambda *question: (*question, "and me"))
        client.on("binary question", lambda data: {"data": data + b"\0"})
        client.on("silent question", client.is_silent)
        for namespace in namespaces:
            client.on("*", lambda *event: client.heard.put_nowait(event), namespace=namespace)
        await client.connect(
            node.url, transports=["websocket"], namespaces=["/", *namespaces], wait_timeout=5
        )
        client.id = str(client.get_sid())
        return client

    async def is_silent(self) -> None:
        await asyncio.sleep(3600)

    async def do(self, what: str, **options: Any) -> Any:
        return await self.call("do", (what, options), timeout=10)

    async def told(self) -> dict[str, Any]:
        return dict(await self.call("told", timeout=10))

    async def nothing_more(self) -> None:
        """Check that no event is left. Earlier events arrive before the reply to this request."""
        await self.told()
        assert self.heard.empty(), self.heard.get_nowait()


Nodes = list[EchoNode]
Starting = Callable[[str], Awaitable[EchoNode]]


@pytest_asyncio.fixture
async def starting(tmp_path: Path) -> AsyncIterator[Starting]:
    started: list[EchoNode] = []

    async def start(url: str) -> EchoNode:
        node = EchoNode(tmp_path / f"log-{len(started)}", url, PREFIX, KEEP_FOR_S, CALLBACK_S)
        started.append(node)
        await node.start()
        return node

    yield start
    complaints = await asyncio.gather(*[node.stop() for node in started])
    assert [complaint for complaint in complaints if "Traceback" in complaint] == []


@pytest_asyncio.fixture
async def three(own_redis: RedisServer, starting: Starting) -> Nodes:
    return list(await asyncio.gather(*[starting(own_redis.url) for _ in range(3)]))


@pytest_asyncio.fixture
async def guests(three: Nodes) -> AsyncIterator[list[Client]]:
    """Two clients on each of three nodes: clients 0 and 3 are on the first node, 1 and 4 on the second."""
    clients = [await Client.at(node) for node in three * 2]
    yield clients
    await asyncio.gather(*[client.disconnect() for client in clients])


async def until(true: Callable[[], Awaitable[bool]], within: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within):
        while not await true():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.02)
