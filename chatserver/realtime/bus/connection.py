"""One established connection to Redis, in the second version of its protocol.

hiredis parses; nothing here waits, and a connection that fails says so once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, cast

import hiredis

UNSENT_MAX = 16 * 2**20
"""Bytes that Redis does not take in; past it the connection is given up, and others catch up."""
SILENT_MAX = 4
"""Beats without a byte from Redis after which it counts as gone. They are counted, not timed: a
process that was itself frozen for a while must not take its own absence for that of Redis."""

_NOTHING = object()


def command(words: Iterable[bytes]) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


class RefusedByRedis(OSError):
    """Redis answered, but is not one that can be used; the message says why."""


class RedisConnection(asyncio.Protocol, ABC):
    """What the publisher's and the subscriber's connection have in common."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        """`broken` is called at most once, with the reason, unless `abort` was called before."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the socket is closed."""
        self._greeting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broken = broken
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._silent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of uvloop is none by its type.
        self._transport = cast(asyncio.Transport, transport)
        if self.gone.done():
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was closed{f' ({error})' if error else ''}")
        if not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._silent = 0
        gets = self._reader.gets
        try:
            self._reader.feed(data)
            while (answer := gets()) is not _NOTHING:
                self._take(answer)
        except hiredis.ProtocolError:
            self._fail("it does not speak Redis's protocol")

    async def greet(self, name: str, username: str, password: str) -> None:
        """Log in and see who is there. HELLO needs no permission. Raises RefusedByRedis, OSError."""
        login = ("AUTH", username or "default", password) if password else ()
        words = ("HELLO", "2", *login, "SETNAME", name)
        self.write(command(word.encode() for word in words))
        await self._greeting

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNSENT_MAX:
            self._fail("it takes nothing in")

    def beat(self) -> None:
        """Called at regular intervals: see whether Redis is still there."""
        if self._silent >= SILENT_MAX:
            self._fail("it does not answer")
        else:
            self._silent += 1
            self._ask()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self._broken = _nobody
        if self._transport is None:
            if not self.gone.done():
                self.gone.set_result(None)
        else:
            self._transport.abort()

    def unmade(self) -> None:
        """The attempt to connect was given up. The loop closes the socket, and uvloop does not say
        when, even if it has already said that the connection is made."""
        self.abort()
        if not self.gone.done():
            self.gone.set_result(None)

    def _fail(self, reason: str) -> None:
        broken, self._broken = self._broken, _nobody
        if not self._greeting.done():
            self._greeting.set_exception(RefusedByRedis(reason))
            # Whoever waited may have been cancelled meanwhile.
            self._greeting.exception()
        if self._transport is not None:
            self._transport.abort()
        broken(reason)

    def _server(self, answer: list[Any]) -> None:
        """The answer to HELLO: names and values in turn."""
        try:
            refuse(dict(zip(answer[::2], answer[1::2], strict=True)))
        except RefusedByRedis as error:
            self._fail(str(error))
        else:
            if not self._greeting.done():
                self._greeting.set_result(None)

    @abstractmethod
    def _take(self, answer: Any) -> None:
        """What Redis says, in the order in which it is said."""

    @abstractmethod
    def _ask(self) -> None:
        """Say something that Redis answers."""


def refuse(server: dict[bytes, Any]) -> None:
    """Raise RefusedByRedis if the server that said this in answer to HELLO cannot carry the bus."""
    if server.get(b"mode") == b"cluster":
        # PUBLISH counts only receivers on the same server there, and a bus relies on the count.
        raise RefusedByRedis("it is a Redis Cluster, over which the nodes cannot be joined")
    if server.get(b"mode") == b"sentinel":
        raise RefusedByRedis("it is a Sentinel: the URL must begin with redis+sentinel://")
    if server.get(b"role") in (b"replica", b"slave"):
        # Who publishes to a replica is not heard by those at the master.
        raise RefusedByRedis("it is a replica")


def _nobody(reason: str) -> None:
    """Whoever broke the connection knows."""
