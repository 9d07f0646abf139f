"""The bus, which reconnects to Redis after every failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import secrets
from collections.abc import Callable

from ..memory import Memory
from .channels import Channels
from .connection import RefusedByRedis
from .connection_pair import ConnectionPair
from .redis_url import Address

log = logging.getLogger(__name__)

BACKOFF_S = (0.05, 1.0)
STEADY_S = 1.0
"""After a connection that lasted longer than this, the bus reconnects without a pause."""
FAREWELL_S = 0.5
GATHER_S = 0.1
"""Requests to catch up within this time count as one: after an outage of Redis many nodes send one."""

Watch = Callable[[str, str, Callable[[], float]], None]


class Bus:
    """Publish and subscribe between nodes over Redis.

    The bus never sends a message twice, and calls `missed` when messages may have been lost. So store what
    you publish first: a node that misses the message can then read it. Channel names that start with `bus:`
    are reserved.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "chat:",
        deliver: Callable[[str, bytes], None],
        missed: Callable[[], None],
        lost: Callable[[], None],
        went_round: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`deliver(channel, message)` is called in the event loop, in order of arrival.

        `missed()` is called when this node may have missed messages on any channel: each time the bus comes
        up, the first time included, and when another node could not publish for a while. `lost()` is called
        when the bus goes down. `went_round` is called twice a second with the seconds that a message from this
        node to itself took. A message to another node takes as long, and measuring that would need
        synchronised clocks.

        Redis does not separate channels by database, so the URL's database becomes part of the prefix.
        Requires a running event loop. Raises BadAddress.
        """
        self.up = False
        """True while both connections work. All channels that were wanted when they opened are then subscribed."""
        self.published = 0
        self.received = 0
        self.dropped = 0
        """Messages published while the bus was down, or without a reply when it went down."""
        self.joined = 0
        """How often the bus came up."""
        self.trouble = "not tried yet"
        """Why the bus is down; empty while it is up."""
        self._address = Address.parse(url)
        self._prefix = prefix + (f"{self._address.db}:" if self._address.db else "")
        self._deliver = deliver
        self._missed = missed
        self._lost = lost
        self._went_round = went_round
        self._id = secrets.token_hex(8)
        self._all = self._name("bus:all")
        self._own = self._name(f"bus:{self._id}")
        self._channels = Channels([self._all, self._own])
        self._names = self._channels.names
        self._pair: ConnectionPair | None = None
        self._owing = False
        """True if other nodes may have missed a message from here and have not been told yet."""
        self._task: asyncio.Task[None] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._sending = False

    async def start(self) -> None:
        """Return after the first attempt to connect, within a few seconds; `up` is True if it succeeded.
        The bus keeps trying until it is closed."""
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(tried), name="bus")
        self._task.add_done_callback(lambda _: tried.set())
        await tried.wait()

    async def close(self) -> bool:
        """Send what is still unsent, as far as Redis accepts it within FAREWELL_S, and disconnect. After
        this returns, `deliver`, `lost` and `missed` are not called any more.

        Returns True if everything that was published went out. If False, other nodes may have missed
        something, and this node can no longer tell them.
        """
        if self._task is None:
            return not self._owing
        if self.up and self._pair is not None:
            # Redis replies in order: the reply to this message is the last.
            farewell = asyncio.Event()
            self._pair.publisher.publish(self._own, b"", lambda _: farewell.set())
            with contextlib.suppress(OSError):  # Redis is down or too slow
                async with asyncio.timeout(FAREWELL_S):
                    await self._pair.until(farewell.wait())
            self._owing |= self.up and self._pair.publisher.unanswered > 0
        self.up = False
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._gathering is not None:
            self._gathering.cancel()
        return not self._owing

    def publish(
        self, channel: str, message: bytes, received: Callable[[int], None] | None = None
    ) -> None:
        """Publish without waiting; never fails. All messages of one turn of the event loop leave in one
        write, in order.

        `received(n)` is called when Redis replies, with the number of connections that receive the message;
        this node's own counts. It is not called if the message or the reply is lost. While the bus is down
        the message is dropped, and other nodes are told to catch up when the bus is up again.
        """
        if self.up and self._pair is not None:
            self.published += 1
            self._pair.publisher.publish((self._prefix + channel).encode(), message, received)
        else:
            self.dropped += 1
            self._owing = True

    def subscribe(self, channel: str) -> asyncio.Future[bool]:
        """The future is True when Redis has confirmed the channel: everything published from then on is
        received. It is False if the bus is or goes down, or if the channel is unsubscribed. A channel that is
        still wanted is subscribed before the next call of `missed`."""
        name = self._name(channel)
        self._channels.want(name, channel)
        if not self.up:
            down: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            down.set_result(False)
            return down
        self._send_soon()
        return self._channels.confirmation(name)

    def unsubscribe(self, channel: str) -> None:
        """From this call on, `deliver` gets no message of the channel."""
        self._channels.forget(self._name(channel))
        self._send_soon()

    @property
    def reconnects(self) -> int:
        return max(0, self.joined - 1)

    def watch(self, gauge: Watch, counter: Watch, memory: Memory) -> None:
        """Register metrics with `gauge(name, description, read)`, and those that only grow with `counter`."""
        self._channels.watch(memory)
        memory(
            "messages that Redis has not answered",
            lambda: self._pair.publisher.unanswered if self._pair else 0,
            None,
        )
        gauge("chat_bus_up", "1 while the bus is up.", lambda: float(self.up))
        gauge("chat_bus_channels", "Channels that this node receives.", lambda: len(self._names))
        counter("chat_bus_published_total", "Messages published.", lambda: self.published)
        counter("chat_bus_heard_total", "Messages received.", lambda: self.received)
        counter(
            "chat_bus_dropped_total", "Messages lost on the way to Redis.", lambda: self.dropped
        )
        counter(
            "chat_bus_reconnects_total", "How often the bus came up again.", lambda: self.reconnects
        )

    def _name(self, channel: str) -> bytes:
        return (self._prefix + channel).encode()

    def _send_soon(self) -> None:
        if not self._sending:
            self._sending = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._sending = False
        # While the connections are being opened, ConnectionPair.begin sends the changes.
        if self.up and self._pair is not None:
            self._pair.subscriber.write(b"".join(self._channels.changes()))

    def _message(self, channel: bytes, message: bytes) -> None:
        name = self._names.get(channel)
        if name is not None:
            self.received += 1
            self._deliver(name, message)
        elif channel == self._own and self._pair is not None:
            self._pair.came_round()
        elif channel == self._all and message != self._id.encode() and self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(GATHER_S, self._called_to_catch_up)

    def _called_to_catch_up(self) -> None:
        self._gathering = None
        if self.up:
            self._tell(self._missed)

    async def _run(self, tried: asyncio.Event) -> None:
        tries = 0
        while True:
            steady = await self._live(tried)
            tried.set()
            tries = 0 if steady else tries
            if tries:
                longest = min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(tries, 10))
                await asyncio.sleep(random.uniform(longest / 2, longest))
            tries += 1

    async def _live(self, tried: asyncio.Event) -> bool:
        """Connect, and return when the connection has ended: True if it lasted longer than STEADY_S."""
        loop = asyncio.get_running_loop()
        pair = self._pair = ConnectionPair(
            self._address, self._channels, self._message, self._broken, self._went_round
        )
        since = math.inf
        reason = ""
        try:
            await pair.begin(f"chatserver-{self._id}", self._own)
            since = loop.time()
            self._joined(pair)
            tried.set()
            reason = await pair.last()
        except RefusedByRedis as refused:
            reason = str(refused)
        except Exception as error:  # a bug of ours: the bus reconnects all the same
            log.exception("the bus failed")
            reason = repr(error)
        finally:
            pair.end(reason)
            self._broken(reason)
            self._channels.lost()
            await pair.closed()
        self._troubled(reason)
        return loop.time() - since > STEADY_S

    def _joined(self, pair: ConnectionPair) -> None:
        if self.joined:
            # A warning, like the message about the loss of the connection.
            log.warning("connected to the other nodes again through %s", self._address)
        else:
            log.info("connected to the other nodes through %s", self._address)
        self.trouble = ""
        self.up = True
        self.joined += 1
        if self._owing:
            pair.publisher.publish(self._all, self._id.encode(), self._paid)
        self._tell(self._missed)

    def _paid(self, receivers: int) -> None:
        self._owing = False

    def _broken(self, reason: str) -> None:
        if not self.up:
            return
        self.up = False
        self._troubled(reason)
        if self._pair is not None and self._pair.publisher.unanswered:
            self.dropped += self._pair.publisher.unanswered
            self._owing = True
        self._channels.lost()
        self._tell(self._lost)

    def _troubled(self, reason: str) -> None:
        if reason != self.trouble:
            log.warning("not connected to the other nodes: %s: %s", self._address, reason)
            self.trouble = reason

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # the bus continues, whatever a callback raises
            log.exception("a callback failed when the bus was %s", "up" if self.up else "down")
