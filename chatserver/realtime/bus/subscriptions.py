"""The subscribed channels of the bus: those that are wanted here, and those that were a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from ..expiry_queue import ExpiryQueue
from .pubsub import PubSub

KEEP_FOR_S = 30.0
"""How long a channel stays subscribed after its last use: most users come back. Much longer than a user
may take to connect."""
CONFIRM_S = 1.0
"""How long to wait for the confirmation of a channel."""

K = TypeVar("K", bound=Hashable)


class Subscriptions(Generic[K]):
    """The channels of one sort, one for each key. A channel that is not wanted `keep_for_s` seconds after its
    last use is unsubscribed."""

    def __init__(
        self,
        bus: PubSub,
        channel: Callable[[K], str],
        wanted: Callable[[K], bool],
        *,
        keep_for_s: float,
        left: Callable[[K], None] = lambda key: None,
    ) -> None:
        """`left(key)` is called when its channel is unsubscribed."""
        self._bus = bus
        self._channel = channel
        self._wanted = wanted
        self._left = left
        self._subscribed: dict[K, asyncio.Future[bool]] = {}
        """Of each, whether Redis has confirmed it."""
        self._expiry = ExpiryQueue(keep_for_s, self.leave)

    def __contains__(self, key: K) -> bool:
        return key in self._subscribed

    def __len__(self) -> int:
        return len(self._subscribed)

    def subscribe(self, key: K) -> asyncio.Future[bool]:
        """A use. True when all that is published from now on is received; False when the bus is away."""
        # The user whom it is for may not come in after all.
        self._expiry.keep(key)
        if key not in self._subscribed:
            self._subscribed[key] = self._bus.subscribe(self._channel(key))
        return self._subscribed[key]

    def keep(self, key: K) -> None:
        """A use of a subscribed channel, maybe the last."""
        if key in self._subscribed:
            self._expiry.keep(key)

    def leave(self, key: K) -> None:
        """Unsubscribe, unless the channel is wanted."""
        if key in self._subscribed and not self._wanted(key):
            del self._subscribed[key]
            self._bus.unsubscribe(self._channel(key))
            self._left(key)


async def settled(confirmations: Iterable[asyncio.Future[bool]]) -> None:
    """Return when Redis has confirmed them, or after a second."""
    waiting = [confirmation for confirmation in confirmations if not confirmation.done()]
    if waiting:
        await asyncio.wait(waiting, timeout=CONFIRM_S)
