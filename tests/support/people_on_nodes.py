"""Several nodes, and people spread over them."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from redis.asyncio import Redis

from .patience import PATIENCE_S
from .redises import RedisServer
from .servers import ChatServer, chat_server

NODES = 3
LACKING = (
    "chat_rooms_lacking ",
    "chat_catching_up ",
    "chat_bus_up ",
    "chat_node_lease",
    "chat_mongo_operation_failures",
)
"""Metrics that can explain why a node is behind."""


class Spread:
    """Nodes that share a database and a Redis."""

    def __init__(
        self,
        servers: list[ChatServer],
        redis: Redis,
        database: str,
        session: aiohttp.ClientSession,
    ) -> None:
        self.servers = servers
        self._next = itertools.cycle(servers)
        self._redis = redis
        self._session = session
        self.prefix = f"chat:{database}:"
        self._questions = itertools.count(1)

    def another(self) -> ChatServer:
        """Returns the nodes in turn."""
        return next(self._next)

    async def joined(self, redis: RedisServer) -> None:
        """Waits until every node is connected to the others by this Redis."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if await redis.receivers(f"{self.prefix}all") == len(self.servers):
                    return
                await asyncio.sleep(0.05)

    async def settled(self) -> None:
        """Waits until every node has handled everything that any node had published before this call.

        A reply in the first round arrives after everything that its node had published. The second round
        shows that all nodes have received that. After both, a room may still wait for missing entries, and a
        node that was cut off for a moment, as on a busy machine, may still be catching up.
        """
        await self._round()
        await self._round()
        await asyncio.gather(*[self._lacks_nothing(server) for server in self.servers])

    async def _lacks_nothing(self, server: ChatServer, within: float = PATIENCE_S) -> None:
        end = time.monotonic() + within
        while True:
            async with self._session.get(f"{server.rest}/metrics") as answer:
                said = await answer.text()
                if "chat_rooms_lacking 0.0" in said and "chat_catching_up 0.0" in said:
                    return
            lacking = [line for line in said.splitlines() if line.startswith(LACKING)]
            assert time.monotonic() < end, (server.rest, lacking, server.log[-4000:])
            await asyncio.sleep(0.02)

    async def _round(self) -> None:
        me = secrets.token_hex(8)
        async with self._redis.pubsub() as channel, asyncio.timeout(PATIENCE_S):
            await channel.subscribe(f"{self.prefix}n:{me}")
            question = b"g%b%08x%b" % (me.encode(), next(self._questions), b'["of a test",null]')
            answered: set[bytes] = set()
            while len(answered) < len(self.servers):
                # Repeated, for nodes that were cut off from Redis a moment ago.
                await self._redis.publish(f"{self.prefix}all", question)
                while message := await channel.get_message(True, timeout=1.0):
                    answered.add(message["data"][1:17])
                    if len(answered) == len(self.servers):
                        break


@asynccontextmanager
async def spread(
    mongo_url: str,
    redis_url: str,
    database: str,
    folder: Path,
    *,
    count: int = NODES,
    **settings: str,
) -> AsyncIterator[Spread]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(redis_url))
        starting = [
            stack.enter_async_context(
                chat_server(
                    mongo_url,
                    database,
                    folder / f"log-{n}",
                    **{"REDIS_URL": redis_url, **settings},
                )
            )
            for n in range(count)
        ]
        # Wait for all, even if one fails: otherwise the nodes that are still starting would never be stopped.
        started = await asyncio.gather(*starting, return_exceptions=True)
        if failed := [outcome for outcome in started if isinstance(outcome, BaseException)]:
            raise BaseExceptionGroup(f"{len(failed)} of {count} nodes did not start", failed)
        servers = [outcome for outcome in started if isinstance(outcome, ChatServer)]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Spread(servers, redis, database, session)
