"""The rooms that are heard here: those with members, and those that had some a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..bus import Bus
from ..questions import WAIT_S
from . import names

Room = tuple[str, Any]
"""A namespace, and a room in it."""


class Hosted:
    """`is_empty` is asked when a room that nobody was in has been heard for `linger` seconds more."""

    def __init__(self, bus: Bus, linger: float, is_empty: Callable[[Room], bool]) -> None:
        self._bus = bus
        self._linger = linger
        self._is_empty = is_empty
        self._heard: dict[Room, asyncio.Future[bool]] = {}
        """Of each, whether Redis has confirmed it."""
        self._lingering: set[Room] = set()

    def hear(self, room: Room) -> asyncio.Future[bool]:
        """Done when the room is heard; at once when Redis is away."""
        if room not in self._heard:
            self._heard[room] = self._bus.subscribe(names.of_room(*room))
        return self._heard[room]

    async def confirmed(self, room: Room) -> None:
        """Return when it is heard, or after a second."""
        heard = self._heard.get(room)
        if heard is not None and not heard.done():
            await asyncio.wait([heard], timeout=WAIT_S)

    def left(self, room: Room) -> None:
        """Somebody left it, maybe the last one."""
        if room in self._heard and room not in self._lingering and self._is_empty(room):
            self._lingering.add(room)
            asyncio.get_running_loop().call_later(self._linger, self._stop, room)

    def _stop(self, room: Room) -> None:
        self._lingering.discard(room)
        if self._is_empty(room) and self._heard.pop(room, None) is not None:
            self._bus.unsubscribe(names.of_room(*room))
