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
"""After four beats without a reply Redis counts as down, within 2.5 s."""
SENTINELS_S = 5.0
"""How often the Sentinels are asked which server is the master. A former master that is cut off from them
would keep serving the nodes that are cut off with it."""


class ConnectionPair:
    """A publisher and a subscriber, from `begin` to `over`. A pair is not used again after that."""

    def __init__(
        self,
        address: Address,
        channels: Channels,
        message: Callable[[bytes, bytes], None],
        broken: Callable[[str], None],
        rounded: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`broken` is called with the reason if a connection fails, `rounded` with the seconds that a message
        from this node to itself took."""
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
        """Connect, log in, subscribe to all wanted channels, and receive a message of this node on the channel
        `own`.

        Raises RefusedByRedis, whose message says why this Redis cannot be used and may be logged.
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
                except BaseException:  # refused or cancelled: the loop may have opened a socket
                    connection.unmade()
                    raise
                await connection.greet(
                    f"{name}-{role}", self._address.username, self._address.password
                )
        self._own = own
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        await self._subscribe()
        # A host name or proxy may lead to several servers. This proves that both connections lead to the same.
        self.publisher.publish(own, b"", None)
        async with asyncio.timeout(CONNECT_S):
            await self.until(self._circle)
        # Channels wanted since then. Nothing may be awaited between the last check and the return.
        await self._subscribe()

    async def _subscribe(self) -> None:
        # Chunk by chunk: the replies to all could exceed the output buffer that Redis allows a subscriber.
        for chunk in self._channels.changes():
            self.subscriber.write(chunk)
            await self.until(self._channels.settled())

    def came_round(self) -> None:
        """A message that this node published on `own` has arrived."""
        if not self._circle.done():
            self._circle.set_result(None)
        elif self._rounding_since:
            self._rounded(time.perf_counter() - self._rounding_since)
            self._rounding_since = 0.0

    async def last(self) -> str:
        """Return the reason when the pair has ended."""
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
            # No Sentinel names another master.
            return False

    def end(self, reason: str) -> None:
        """Close both connections immediately."""
        if not self.over.done():
            self.over.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
        self.publisher.abort()
        self.subscriber.abort()

    async def closed(self) -> None:
        """Return when both sockets are closed."""
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
        """Wait for `what`. Raises RefusedByRedis if a connection fails first."""
        either: list[asyncio.Future[Any]] = [asyncio.ensure_future(what), self.over]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            either[0].cancel()
        if self.over.done():
            raise RefusedByRedis(self.over.result())


async def ask(url: str, prefix: str = "chat:") -> str:
    """Returns why nodes cannot be connected through this Redis, or an empty string if they can.

    Raises BadAddress.
    """
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
