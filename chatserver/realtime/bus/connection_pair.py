"""The two connections to one Redis: opened together, and closed when either fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .channels import Channels
from .connection import RefusedByRedis
from .publisher import Publisher
from .redis_url import Address
from .subscriber import Subscriber

CONNECT_S = 2.0
BEAT_S = 0.5
"""With four of them in vain Redis counts as gone, within 2.5 s."""
SENTINELS_S = 5.0
"""How often Sentinels are asked whether the master is still the master: one that is cut off from
them would go on serving whoever is cut off with it."""


class ConnectionPair:
    """A publisher and a subscriber, from `begin` to `over`. Not used again after that."""

    def __init__(
        self,
        address: Address,
        channels: Channels,
        message: Callable[[bytes, bytes], None],
        broken: Callable[[str], None],
        rounded: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`broken` is called when an end was not asked for, with the reason; `rounded` with the seconds
        that a message to oneself took."""
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.publisher = Publisher(self._fail)
        self.subscriber = Subscriber(self._fail, message, channels.confirmed)
        self._address = address
        self._server = address
        self._channels = channels
        self._broken = broken
        self._rounded = rounded
        self._own = b""
        self._rounding_since = 0.0
        self._circle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self, name: str, own: bytes) -> None:
        """Connect, log in, subscribe all that is wanted, and receive a message of our own on the channel `own`.

        Raises RefusedByRedis: in words that may be logged, why this Redis cannot be used.
        """
        try:
            await self._begin(name, own)
        except TimeoutError:
            raise RefusedByRedis("it does not answer") from None
        except OSError as error:
            raise RefusedByRedis(self._address.redacted(str(error))) from error

    async def _begin(self, name: str, own: bytes) -> None:
        async with asyncio.timeout(CONNECT_S):
            self._server = await self._address.find()
            for connection, role in ((self.publisher, "publishes"), (self.subscriber, "hears")):
                try:
                    await self._server.connect(connection)
                except BaseException:  # refused or cancelled: the loop may have made a socket
                    connection.unmade()
                    raise
                await connection.greet(
                    f"{name}-{role}", self._address.username, self._address.password
                )
        self._own = own
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        await self._subscribe()
        # A name or a proxy can stand for several servers: both connections must be to the same.
        self.publisher.publish(own, b"", None)
        async with asyncio.timeout(CONNECT_S):
            await self.until(self._circle)
        # What was wanted meanwhile. Nothing may come between the last look and the return.
        await self._subscribe()

    async def _subscribe(self) -> None:
        # Chunk by chunk: the answers to all at once could be more than Redis keeps for a subscriber.
        for chunk in self._channels.changes():
            self.subscriber.write(chunk)
            await self.until(self._channels.settled())

    def came_round(self) -> None:
        """What was published on `own` was heard."""
        if not self._circle.done():
            self._circle.set_result(None)
        elif self._rounding_since:
            self._rounded(time.perf_counter() - self._rounding_since)
            self._rounding_since = 0.0

    async def last(self) -> str:
        """Wait for the end; returns the reason."""
        while not self.over.done():
            await asyncio.wait([self.over], timeout=SENTINELS_S)
            if not self.over.done() and await self._deposed():
                self._fail("the Sentinels name another master")
        return self.over.result()

    async def _deposed(self) -> bool:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._address.find() != self._server
        except OSError:
            # Nobody names a better one.
            return False

    def end(self, reason: str) -> None:
        """Close both connections at once."""
        if not self.over.done():
            self.over.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        self.publisher.abort()
        self.subscriber.abort()

    async def closed(self) -> None:
        """Wait until both sockets are."""
        await asyncio.gather(self.publisher.gone, self.subscriber.gone)

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        self.publisher.beat()
        self.subscriber.beat()
        if self._circle.done() and not self._rounding_since:
            self._rounding_since = time.perf_counter()
            self.publisher.publish(self._own, b"", None)

    def _fail(self, reason: str) -> None:
        if not self.over.done():
            self.end(reason)
            self._broken(reason)

    async def until(self, what: Awaitable[object]) -> None:
        """Wait for it. Raises RefusedByRedis when the connections fail before."""
        either: list[asyncio.Future[Any]] = [asyncio.ensure_future(what), self.over]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            either[0].cancel()
        if self.over.done():
            raise RefusedByRedis(self.over.result())


async def ask(url: str, prefix: str = "chat:") -> str:
    """Why a node cannot be joined to others there; empty when it can. Raises BadAddress."""
    own = f"{prefix}bus:asking".encode()

    def message(channel: bytes, message: bytes) -> None:
        pair.came_round()

    pair = ConnectionPair(Address.parse(url), Channels([own]), message, lambda reason: None)
    try:
        await pair.begin("chatserver-asks", own)
    except RefusedByRedis as refused:
        return str(refused)
    finally:
        pair.end("asked")
        await pair.closed()
    return ""
