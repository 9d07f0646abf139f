"""Typing and recording indicators. They are never stored."""

from __future__ import annotations

from typing import Any, Literal

from ..clock import stamp
from ..errors import NotFound
from ..realtime.expiry_queue import ExpiryQueue
from .rooms import ConversationRooms

Kind = Literal["typing", "recording"]
_Key = tuple[str, str, Kind]
TICK_S = 0.001
"""How late an activity may time out. Event loops round their timers, and a timer that fires too early
would fire again and again."""


class Activity:
    """Keeps track of the users who are typing or recording.

    An activity starts when the user's first device starts it. It stops when the last device has stopped,
    timed out or disconnected.

    A node emits events to its own sockets and signals their activities to the other nodes. To these, the
    node is one device of the user. It signals each start, and without a new signal the device times out.
    """

    def __init__(self, rooms: ConversationRooms, *, node: str, timeout_s: float) -> None:
        self._rooms = rooms
        self._node = node
        self._active: dict[_Key, set[Any]] = {}
        """The active devices: sockets of this node, and ids of other nodes."""
        self._of_device: dict[Any, set[_Key]] = {}
        self._expiry = ExpiryQueue(timeout_s, self._timed_out, slack_s=TICK_S)
        rooms.on("activity", self._on_remote_activity)

    def start(self, socket: Any, user_id: str, conversation_id: str, kind: Kind) -> None:
        """`socket` is the sender, which does not receive the event. Raises NotFound for a non-member."""
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
        """The socket has disconnected. Its activities stop."""
        for key in tuple(self._of_device.get(socket, ())):
            self._end(key, socket)

    def _begin(self, key: _Key, device: Any) -> None:
        if key not in self._active:
            self._active[key] = set()
            self._tell(key, device, active=True)
        self._active[key].add(device)
        self._of_device.setdefault(device, set()).add(key)
        self._expiry.keep((key, device))

    def _end(self, key: _Key, device: Any) -> None:
        if self._expiry.discard((key, device)):
            self._ended(key, device)

    def _timed_out(self, activity: tuple[_Key, Any]) -> None:
        self._ended(*activity)

    def _ended(self, key: _Key, device: Any) -> None:
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
