"""Which channels of the bus are heard: of what is wanted here, and of what was a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from .expiry_queue import Linger
from .pubsub import PubSub

LINGER_S = 30.0
"""How long something is heard after its last use: most come back. Longer by far than somebody may take
to come in."""
CONFIRM_S = 1.0
"""How long a channel is waited for."""

K = TypeVar("K", bound=Hashable)


class Subscriptions(Generic[K]):
    """The channels of one sort, one for each key. One that is not wanted any more `linger` seconds after
    its last use is left."""

    def __init__(
        self,
        bus: PubSub,
        channel: Callable[[K], str],
        wanted: Callable[[K], bool],
        *,
        linger: float,
        left: Callable[[K], None] = lambda key: None,
    ) -> None:
        """`left(key)` is called when its channel is heard no more."""
        self._bus = bus
        self._channel = channel
        self._wanted = wanted
        self._left = left
        self._heard: dict[K, asyncio.Future[bool]] = {}
        """Of each, whether Redis has confirmed it."""
        self._linger = Linger(linger, self.leave)

    def __contains__(self, key: K) -> bool:
        return key in self._heard

    def __len__(self) -> int:
        return len(self._heard)

    def hear(self, key: K) -> asyncio.Future[bool]:
        """A use. True when all that is said from now on is heard; False when the bus is away."""
        # Whoever it is for may not come in after all.
        self._linger.keep(key)
        if key not in self._heard:
            self._heard[key] = self._bus.subscribe(self._channel(key))
        return self._heard[key]

    def keep(self, key: K) -> None:
        """A use of what is heard, maybe the last one."""
        if key in self._heard:
            self._linger.keep(key)

    def leave(self, key: K) -> None:
        """Hear it no more, unless it is wanted."""
        if key in self._heard and not self._wanted(key):
            del self._heard[key]
            self._bus.unsubscribe(self._channel(key))
            self._left(key)


async def settled(heard: Iterable[asyncio.Future[bool]]) -> None:
    """Return when Redis has confirmed them, or after a second."""
    waiting = [one for one in heard if not one.done()]
    if waiting:
        await asyncio.wait(waiting, timeout=CONFIRM_S)
