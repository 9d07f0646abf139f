"""Typing and recording indicators. They are never stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..clock import stamp
from ..errors import NotFound
from ..observability.metrics import Families
from .outside import ConversationRooms, Expiry
from .signals import Indicator, IndicatorChanged

_Key = tuple[str, str, Indicator]
"""Conversation, user, indicator."""
Device = Any
"""A socket of this node, or the id of another node."""


class Activity:
    """Keeps track of the users who are typing or recording.

    An activity starts when the user's first device starts it. It stops when the last device has stopped,
    timed out or disconnected.

    A node emits events to its own sockets and signals their activities to the other nodes. To these, the
    node is one device of the user. It signals each start, and without a new signal the device times out.
    """

    def __init__(
        self,
        rooms: ConversationRooms,
        expiry: Callable[[Callable[[tuple[_Key, Device]], None]], Expiry[tuple[_Key, Device]]],
        *,
        node: str,
    ) -> None:
        """`expiry(timed_out)` returns the timers of the devices."""
        self._rooms = rooms
        self._node = node
        self._active: dict[_Key, set[Device]] = {}
        """The active devices."""
        self._of_device: dict[Device, set[_Key]] = {}
        self._expiry = expiry(self._timed_out)
        rooms.on(IndicatorChanged, self._on_remote_activity)

    def watch(self, metrics: Families) -> None:
        metrics.memory("typing", lambda: len(self._active) + len(self._of_device), None)

    def start(self, socket: Any, user_id: str, conversation_id: str, indicator: Indicator) -> None:
        """`socket` is the sender, which does not receive the event. Raises NotFound for a non-member."""
        if not self._rooms.hosts(user_id, conversation_id):
            raise NotFound()
        key = (conversation_id, user_id, indicator)
        self._begin(key, socket)
        self._signal(key, active=True)

    def stop(self, socket: Any, user_id: str, conversation_id: str, indicator: Indicator) -> None:
        if not self._rooms.hosts(user_id, conversation_id):
            raise NotFound()
        self._end((conversation_id, user_id, indicator), socket)

    def gone(self, socket: Any) -> None:
        """The socket has disconnected. Its activities stop."""
        for key in tuple(self._of_device.get(socket, ())):
            self._end(key, socket)

    def _begin(self, key: _Key, device: Device) -> None:
        if key not in self._active:
            self._active[key] = set()
            self._tell(key, device, active=True)
        self._active[key].add(device)
        self._of_device.setdefault(device, set()).add(key)
        self._expiry.keep((key, device))

    def _end(self, key: _Key, device: Device) -> None:
        if self._expiry.discard((key, device)):
            self._ended(key, device)

    def _timed_out(self, activity: tuple[_Key, Device]) -> None:
        self._ended(*activity)

    def _ended(self, key: _Key, device: Device) -> None:
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
        self._rooms.signal(IndicatorChanged(self._node, *key, active), room=key[0])

    def _on_remote_activity(self, changed: IndicatorChanged) -> None:
        key = (changed.conversation_id, changed.user_id, changed.indicator)
        if changed.active:
            self._begin(key, changed.node)
        else:
            self._end(key, changed.node)

    def _tell(self, key: _Key, device: Device, *, active: bool) -> None:
        conversation_id, user_id, indicator = key
        self._rooms.emit_volatile(
            conversation_id,
            f"user:{indicator}",
            {
                "conversationId": conversation_id,
                "userId": user_id,
                "type": indicator,
                "isActive": active,
                "timestamp": stamp(),
            },
            skip=device,
        )
