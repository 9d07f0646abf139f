"""Typing and recording: shown while they last, never stored."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Any, Literal

from ..clock import stamp
from ..errors import NotFound
from .rooms import ConversationRooms

Kind = Literal["typing", "recording"]
_Key = tuple[str, str, Kind]
TICK_S = 0.001
"""Loops round their timers: one that rings too early would ring again and again."""


class Activity:
    """A user's activity begins with the first start of any device, and ends with the last stop:
    said, timed out, or the socket gone.

    Every node tells its own sockets, and tells the other nodes what its sockets do: to those it is one
    device of the user's, whose word they hear again with each start, or else time out.
    """

    def __init__(self, rooms: ConversationRooms, *, node: str, timeout_s: float) -> None:
        self._rooms = rooms
        self._node = node
        self._timeout_s = timeout_s
        self._active: dict[_Key, set[Any]] = {}
        """The devices at it: sockets of this node, and ids of other nodes."""
        self._of_device: dict[Any, set[_Key]] = {}
        self._ends: OrderedDict[tuple[_Key, Any], float] = OrderedDict()
        """When each times out. All have the same time, so they are in the order in which they end,
        and one timer does for all."""
        self._timer: asyncio.TimerHandle | None = None
        rooms.on("activity", self._on_remote_activity)

    def start(self, socket: Any, user_id: str, conversation_id: str, kind: Kind) -> None:
        """`socket` is whoever says so: it does not hear of it. Raises NotFound."""
        if not self._rooms.hosts(user_id, conversation_id):
            raise NotFound()
        key: _Key = (conversation_id, user_id, kind)
        self._begin(key, socket)
        self._signal(key, active=True)

    def stop(self, socket: Any, user_id: str, conversation_id: str, kind: Kind) -> None:
        if not self._rooms.hosts(user_id, conversation_id):
            raise NotFound()
        self._end((conversation_id, user_id, kind), socket)

    def gone(self, socket: Any) -> None:
        """The socket has gone, and with it what it was doing."""
        for key in tuple(self._of_device.get(socket, ())):
            self._end(key, socket)

    def _begin(self, key: _Key, device: Any) -> None:
        if key not in self._active:
            self._active[key] = set()
            self._tell(key, device, active=True)
        self._active[key].add(device)
        self._of_device.setdefault(device, set()).add(key)
        self._ends[key, device] = time.monotonic() + self._timeout_s
        self._ends.move_to_end((key, device))
        if self._timer is None:
            self._ring_in(self._timeout_s)

    def _end(self, key: _Key, device: Any) -> None:
        if self._ends.pop((key, device), None) is None:
            return
        keys = self._of_device[device]
        keys.discard(key)
        if not keys:
            del self._of_device[device]
        devices = self._active[key]
        devices.discard(device)
        if not isinstance(device, str) and all(isinstance(other, str) for other in devices):
            self._signal(key, active=False)
        if not devices:
            del self._active[key]
            self._tell(key, device, active=False)

    # --- other nodes ----------------------------------------------------------------------------

    def _signal(self, key: _Key, *, active: bool) -> None:
        self._rooms.signal("activity", [self._node, *key, active], room=key[0])

    def _on_remote_activity(self, signal: list[Any]) -> None:
        node, conversation_id, user_id, kind, active = signal
        key: _Key = (conversation_id, user_id, kind)
        if active:
            self._begin(key, node)
        else:
            self._end(key, node)

    # --- the end --------------------------------------------------------------------------------

    def _ring_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds + TICK_S, self._ring)

    def _ring(self) -> None:
        self._timer = None
        at = time.monotonic()
        while self._ends:
            (key, device), ends = next(iter(self._ends.items()))
            if ends > at:
                self._ring_in(ends - at)
                return
            self._end(key, device)

    def _tell(self, key: _Key, device: Any, *, active: bool) -> None:
        conversation_id, user_id, kind = key
        self._rooms.emit_volatile(
            conversation_id,
            f"user:{kind}",
            {
                "conversationId": conversation_id,
                "userId": user_id,
                "type": kind,
                "isActive": active,
                "timestamp": stamp(),
            },
            skip=device,
        )
