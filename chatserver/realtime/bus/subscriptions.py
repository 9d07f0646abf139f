"""The channels of the bus that this node subscribes to. Each stays subscribed for a while after its last use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from ..expiry_queue import ExpiryQueue
from .pubsub import PubSub

KEEP_FOR_S = 30.0
"""How long a channel stays subscribed after its last use, because most users come back. It must be much
longer than a user takes to connect."""
CONFIRM_S = 1.0
"""How long to wait for the confirmation of a channel."""

K = TypeVar("K", bound=Hashable)


class Subscriptions(Generic[K]):
    """The channels of one kind, one per key. A channel is unsubscribed if it is not wanted `keep_for_s`
    seconds after its last use."""

    def __init__(
        self,
        bus: PubSub,
        channel: Callable[[K], str],
        wanted: Callable[[K], bool],
        *,
        keep_for_s: float,
        left: Callable[[K], None] = lambda key: None,
    ) -> None:
        """`left(key)` is called when the channel of the key is unsubscribed."""
        self._bus = bus
        self._channel = channel
        self._wanted = wanted
        self._left = left
        self._subscribed: dict[K, asyncio.Future[bool]] = {}
        """By key: the future of `Bus.subscribe`."""
        self._expiry = ExpiryQueue(keep_for_s, self.leave)

    def __contains__(self, key: K) -> bool:
        return key in self._subscribed

    def __len__(self) -> int:
        return len(self._subscribed)

    def subscribe(self, key: K) -> asyncio.Future[bool]:
        """Use the channel. The future is True when everything published from then on is received, False if
        the bus is down."""
        # The channel must also expire if the connecting user is refused.
        self._expiry.keep(key)
        if key not in self._subscribed:
            self._subscribed[key] = self._bus.subscribe(self._channel(key))
        return self._subscribed[key]

    def keep(self, key: K) -> None:
        """Record a use of a subscribed channel, possibly the last."""
        if key in self._subscribed:
            self._expiry.keep(key)

    def leave(self, key: K) -> None:
        """Unsubscribe unless the channel is wanted."""
        if key in self._subscribed and not self._wanted(key):
            del self._subscribed[key]
            self._bus.unsubscribe(self._channel(key))
            self._left(key)


async def settled(confirmations: Iterable[asyncio.Future[bool]]) -> None:
    """Return when Redis has confirmed all of them, or after CONFIRM_S."""
    waiting = [confirmation for confirmation in confirmations if not confirmation.done()]
    if waiting:
        await asyncio.wait(waiting, timeout=CONFIRM_S)
