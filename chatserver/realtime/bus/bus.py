"""The bus: what is wanted of Redis, over any number of its failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import secrets
from collections.abc import Callable

from .channels import Channels
from .connection import RefusedByRedis
from .connection_pair import ConnectionPair
from .redis_url import Address

log = logging.getLogger(__name__)

BACKOFF_S = (0.05, 1.0)
STEADY_S = 1.0
"""Who was joined for as long tries again at once."""
FAREWELL_S = 0.5
GATHER_S = 0.1
"""When Redis was away, many nodes call for catching up at about the same time."""

Watch = Callable[[str, str, Callable[[], float]], None]


class Bus:
    """Publish and subscribe between nodes over Redis. What may have been lost on the way is said
    (`missed`), never repeated.

    So whatever is published must be on record elsewhere before it is: who missed it reads it there.
    Channels whose names begin with `bus:` are the bus's own.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "chat:",
        deliver: Callable[[str, bytes], None],
        missed: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        """`deliver(channel, message)` is called in the loop, in the order of arrival.

        `missed()` says that this node may have missed something and shall catch up with all that it
        has subscribed: whenever the bus comes up (at first, too), and when another node could not
        publish for a while. `lost()` says that the bus, which was up, is down.

        Redis's databases do not keep channels apart: the URL's becomes part of the prefix.
        Make it in a running loop. Raises BadAddress.
        """
        self.up = False
        """Both connections work, and all that was wanted when they were made is subscribed."""
        self.published = 0
        self.received = 0
        self.dropped = 0
        """Published while the bus was down, or not answered when it went down."""
        self.joined = 0
        """How often it came up."""
        self.went_round: Callable[[float], None] = lambda seconds: None
        """Called twice a second with how long it took what this node said to itself: what it says to
        another one takes as long, and no two clocks need agree to know that."""
        self.trouble = "it was not tried yet"
        """Why the bus is down; empty while it is up."""
        self._address = Address.parse(url)
        self._prefix = prefix + (f"{self._address.db}:" if self._address.db else "")
        self._deliver = deliver
        self._missed = missed
        self._lost = lost
        self._id = secrets.token_hex(8)
        self._all = self._name("bus:all")
        self._own = self._name(f"bus:{self._id}")
        self._channels = Channels([self._all, self._own])
        self._names = self._channels.names
        self._pair: ConnectionPair | None = None
        self._owing = False
        """Others have not been told yet that they may have missed something from here."""
        self._task: asyncio.Task[None] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._sending = False

    async def start(self) -> None:
        """Return when the first attempt to connect has ended, after some seconds at most; `up` says
        how. The bus goes on trying until it is closed."""
        tried = asyncio.Event()
        self._task = asyncio.create_task(self._run(tried), name="bus")
        self._task.add_done_callback(lambda _: tried.set())
        await tried.wait()

    async def close(self) -> bool:
        """Let what was published last go out, as far as Redis takes it in, and leave. `deliver`, `lost`
        and `missed` are not called any more when this returns.

        Returns whether all that was published went out. If not, others may have missed something,
        and nobody is left here to tell them.
        """
        if self._task is None:
            return not self._owing
        if self.up and self._pair is not None:
            # Answers come in the order of the messages: this one is the last.
            farewell = asyncio.Event()
            self._pair.publisher.publish(self._own, b"", lambda _: farewell.set())
            with contextlib.suppress(OSError):  # it is away, or slower than we wait
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
        """Never waits and never fails. All of one turn of the loop leaves in one write, in order.

        `received(n)` is called when Redis answers, with the number of connections that it goes to (this
        node's own counts); it is not called when the message or the answer is lost. While the bus is
        down a message is dropped, and others are told to catch up when it is up again.
        """
        if self.up and self._pair is not None:
            self.published += 1
            self._pair.publisher.publish((self._prefix + channel).encode(), message, received)
        else:
            self.dropped += 1
            self._owing = True

    def subscribe(self, channel: str) -> asyncio.Future[bool]:
        """True when Redis has confirmed it: what is published from now on is heard. False when the
        bus is down or goes down, or the channel is unsubscribed; a channel that is still wanted is
        subscribed before `missed` is called next."""
        name = self._name(channel)
        self._channels.want(name, channel)
        if not self.up:
            down: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            down.set_result(False)
            return down
        self._send_soon()
        return self._channels.confirmation(name)

    def unsubscribe(self, channel: str) -> None:
        """From now on nothing of it is handed to `deliver`."""
        self._channels.forget(self._name(channel))
        self._send_soon()

    @property
    def reconnects(self) -> int:
        return max(0, self.joined - 1)

    def watch(self, gauge: Watch, counter: Watch) -> None:
        """Hand over what operators watch: `gauge(name, what it is, how to read it)`, and likewise what
        only grows."""
        gauge("chat_bus_up", "1 while this node is joined to the others.", lambda: float(self.up))
        gauge("chat_bus_channels", "Channels that this node hears.", lambda: len(self._names))
        counter("chat_bus_published_total", "Messages for other nodes.", lambda: self.published)
        counter("chat_bus_heard_total", "Messages from the bus.", lambda: self.received)
        counter(
            "chat_bus_dropped_total", "Messages lost on the way to the bus.", lambda: self.dropped
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
        # While the connections are being made, who makes them sends the changes.
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
        """Connect, and stay so for as long as it goes; returns whether that was a while."""
        loop = asyncio.get_running_loop()
        pair = self._pair = ConnectionPair(
            self._address, self._channels, self._message, self._broken, self._rounded
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
        except Exception as error:  # a fault of ours: the bus begins anew all the same
            log.exception("the bus fails")
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
            # As loud as that it was not.
            log.warning("joined to the other nodes again by %s", self._address)
        else:
            log.info("joined to the other nodes by %s", self._address)
        self.trouble = ""
        self.up = True
        self.joined += 1
        if self._owing:
            pair.publisher.publish(self._all, self._id.encode(), self._paid)
        self._tell(self._missed)

    def _rounded(self, seconds: float) -> None:
        self.went_round(seconds)

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
            log.warning("not joined to the other nodes: %s: %s", self._address, reason)
            self.trouble = reason

    def _tell(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # whatever its user does, the bus goes on
            log.exception(
                "who uses the bus could not take in that it is %s", "up" if self.up else "down"
            )
