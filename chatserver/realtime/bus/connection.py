"""One established connection to Redis, in version 2 of its protocol.

hiredis parses the replies. Writing never waits, and a connection that fails reports it once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, cast

import hiredis

UNSENT_MAX = 16 * 2**20
"""Bytes that Redis has not read, past which the connection is closed. Other nodes then catch up."""
SILENT_MAX = 4
"""Beats without a byte from Redis, after which Redis counts as down. Beats are counted, not timed: a
process that was itself frozen must not blame Redis for the silence."""

_NOTHING = object()


def command(words: Iterable[bytes]) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


class RefusedByRedis(OSError):
    """This Redis cannot be used; the message says why."""


class RedisConnection(asyncio.Protocol, ABC):
    """The common part of the publisher's and the subscriber's connection."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        """`broken` is called at most once, with the reason, and never after `abort`."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the socket is closed."""
        self._greeting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broken = broken
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._silent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport does not derive from asyncio.Transport.
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
            self._fail("it does not speak the Redis protocol")

    async def greet(self, name: str, username: str, password: str) -> None:
        """Log in and check the server. HELLO needs no permission. Raises RefusedByRedis, OSError."""
        login = ("AUTH", username or "default", password) if password else ()
        words = ("HELLO", "2", *login, "SETNAME", name)
        self.write(command(word.encode() for word in words))
        await self._greeting

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNSENT_MAX:
            self._fail("it does not read what is sent")

    def beat(self) -> None:
        """Check that Redis still replies. Called at regular intervals."""
        if self._silent >= SILENT_MAX:
            self._fail("it does not answer")
        else:
            self._silent += 1
            self._ask()

    def abort(self) -> None:
        """Close immediately and drop what is unsent."""
        self._broken = _nobody
        if self._transport is None:
            if not self.gone.done():
                self.gone.set_result(None)
        else:
            self._transport.abort()

    def unmade(self) -> None:
        """The attempt to connect failed or was cancelled. The loop closes the socket, but uvloop does not
        call `connection_lost` then, even if it called `connection_made`."""
        self.abort()
        if not self.gone.done():
            self.gone.set_result(None)

    def _fail(self, reason: str) -> None:
        broken, self._broken = self._broken, _nobody
        if not self._greeting.done():
            self._greeting.set_exception(RefusedByRedis(reason))
            # Mark it as retrieved: the task that waits for it may have been cancelled.
            self._greeting.exception()
        if self._transport is not None:
            self._transport.abort()
        broken(reason)

    def _server(self, answer: list[Any]) -> None:
        """Handle the reply to HELLO, a list of names and values in turn."""
        try:
            refuse(dict(zip(answer[::2], answer[1::2], strict=True)))
        except RefusedByRedis as error:
            self._fail(str(error))
        else:
            if not self._greeting.done():
                self._greeting.set_result(None)

    @abstractmethod
    def _take(self, answer: Any) -> None:
        """Handle one reply. Replies are passed in the order in which they arrive."""

    @abstractmethod
    def _ask(self) -> None:
        """Send a command that Redis replies to."""


def refuse(server: dict[bytes, Any]) -> None:
    """Raise RefusedByRedis if the server that sent this reply to HELLO cannot carry the bus."""
    if server.get(b"mode") == b"cluster":
        # In a cluster PUBLISH counts only the receivers on the same server, and the bus relies on the count.
        raise RefusedByRedis("it is a Redis Cluster, which cannot connect the nodes")
    if server.get(b"mode") == b"sentinel":
        raise RefusedByRedis("it is a Sentinel: the URL must start with redis+sentinel://")
    if server.get(b"role") in (b"replica", b"slave"):
        # Subscribers of the master do not receive what is published to a replica.
        raise RefusedByRedis("it is a replica")


def _nobody(reason: str) -> None:
    """Replaces `broken` once the failure was reported, or when we closed the connection."""
