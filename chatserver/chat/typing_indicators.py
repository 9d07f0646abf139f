"""Typing and recording indicators. They are never stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..clock import stamp
from ..errors import NotFound
from ..observability.metrics import Families
from .large_conversations import LargeConversations
from .outside import ConversationRooms, Expiry
from .signals import Indicator, IndicatorChanged

AT_ONCE = 5
"""Users who are announced as typing at the same time in a large conversation."""

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

    In a large conversation a node announces, and signals, at most AT_ONCE users at a time. When one of them stops,
    it announces the user who has waited longest.
    """

    def __init__(
        self,
        rooms: ConversationRooms,
        large: LargeConversations,
        expiry: Callable[[Callable[[tuple[_Key, Device]], None]], Expiry[tuple[_Key, Device]]],
        *,
        node: str,
    ) -> None:
        """`expiry(timed_out)` returns the timers of the devices."""
        self._rooms = rooms
        self._large = large
        self._node = node
        self._active: dict[_Key, set[Device]] = {}
        """The active devices."""
        self._of_device: dict[Device, set[_Key]] = {}
        self._announced: dict[tuple[str, Indicator], set[str]] = {}
        """The active users who are announced, by conversation and indicator."""
        self._waiting: dict[tuple[str, Indicator], dict[str, Device]] = {}
        """The other active users, and the device with which each began."""
        self._expiry = expiry(self._timed_out)
        rooms.on(IndicatorChanged, self._on_remote_activity)

    def watch(self, metrics: Families) -> None:
        metrics.memory(
            "typing",
            lambda: (
                len(self._active)
                + len(self._of_device)
                + len(self._announced)
                + sum(map(len, self._waiting.values()))
            ),
            None,
        )

    def start(self, socket: Any, user_id: str, conversation_id: str, indicator: Indicator) -> None:
        """`socket` is the sender, which does not receive the event. Raises NotFound for a non-member."""
        if not self._rooms.hosts(user_id, conversation_id):
            raise NotFound()
        key = (conversation_id, user_id, indicator)
        self._begin(key, socket)
        if user_id not in self._waiting.get((conversation_id, indicator), ()):
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
            self._announce(key, device)
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
        conversation_id, user_id, indicator = key
        place = (conversation_id, indicator)
        is_announced = user_id in self._announced.get(place, ())
        if (
            is_announced
            and not isinstance(device, str)
            and all(isinstance(other, str) for other in devices)
        ):
            self._signal(key, active=False)
        if devices:
            return
        del self._active[key]
        if is_announced:
            self._withdraw(key, device)
        else:
            self._stop_waiting(place, user_id)

    # --- announcing -----------------------------------------------------------------------------

    def _announce(self, key: _Key, device: Device) -> None:
        """Announce an active user, or let the user wait. `device` does not receive the event."""
        conversation_id, user_id, indicator = key
        announced = self._announced.setdefault((conversation_id, indicator), set())
        if self._has_place(conversation_id, announced):
            announced.add(user_id)
            self._tell(key, device, active=True)
        else:
            self._waiting.setdefault((conversation_id, indicator), {})[user_id] = device

    def _has_place(self, conversation_id: str, announced: set[str]) -> bool:
        return len(announced) < AT_ONCE or not self._large.seems_large(conversation_id)

    def _withdraw(self, key: _Key, device: Device) -> None:
        """Announce that a user has stopped, and the user who has waited longest."""
        conversation_id, user_id, indicator = key
        place = (conversation_id, indicator)
        announced = self._announced[place]
        announced.discard(user_id)
        self._tell(key, device, active=False)
        while (waiting := self._waiting.get(place)) and self._has_place(conversation_id, announced):
            next_id, began = next(iter(waiting.items()))
            self._stop_waiting(place, next_id)
            next_key = (conversation_id, next_id, indicator)
            self._announce(next_key, began)
            if not all(isinstance(other, str) for other in self._active[next_key]):
                self._signal(next_key, active=True)
        if not announced:
            del self._announced[place]

    def _stop_waiting(self, place: tuple[str, Indicator], user_id: str) -> None:
        waiting = self._waiting[place]
        del waiting[user_id]
        if not waiting:
            del self._waiting[place]

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
