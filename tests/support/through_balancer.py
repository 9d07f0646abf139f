"""A load balancer that finds a living node, and whose connections can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from .servers import ChatServer


class Balancer:
    """Sends each connection to the next node that accepts it. People use it as their server."""

    def __init__(self, servers: Sequence[ChatServer]) -> None:
        self._servers = itertools.cycle(servers)
        self._count = len(servers)
        self._writers: set[asyncio.StreamWriter] = set()
        self._silent: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def sockets(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cuts all connections at the same time."""
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Stops forwarding on all current connections without closing them, as if the peers had vanished."""
        self._silent |= self._writers

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._count):
            with contextlib.suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", next(self._servers).ws_port)
                self._writers |= {writer, there[1]}
                with contextlib.suppress(OSError):
                    await asyncio.gather(
                        self._carry(reader, there[1]), self._carry(there[0], writer)
                    )
                self._writers -= {writer, there[1]}
                return
        writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**16):
                if writer not in self._silent:
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def balancer(servers: Sequence[ChatServer]) -> AsyncIterator[Balancer]:
    front = Balancer(servers)
    listening = await asyncio.start_server(front.accept, "127.0.0.1", 0)
    front.port = listening.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        listening.close()
        front.cut()
