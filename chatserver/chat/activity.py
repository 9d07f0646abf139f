"""Typing and recording: shown while they last, never stored."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from ..clock import iso, now
from ..errors import NotFound
from .rooms import Rooms

Kind = Literal["typing", "recording"]
_Key = tuple[str, str, Kind]


class Activity:
    """A user's activity begins with the first start of any device, and ends with the last stop:
    said, timed out, or the socket gone."""

    def __init__(self, rooms: Rooms, *, timeout_s: float) -> None:
        self._rooms = rooms
        self._timeout_s = timeout_s
        self._active: dict[_Key, dict[Any, asyncio.TimerHandle]] = {}
        self._of_socket: dict[Any, set[_Key]] = {}

    def start(self, socket: Any, user_id: str, conversation_id: str, kind: Kind) -> None:
        """`socket` is whoever says so: it does not hear of it. Raises NotFound."""
        if not self._rooms.hosts(user_id, conversation_id):
            raise NotFound()
        key: _Key = (conversation_id, user_id, kind)
        timers = self._active.setdefault(key, {})
        if earlier := timers.get(socket):
            earlier.cancel()
        if not timers:
            self._tell(key, socket, active=True)
        timers[socket] = asyncio.get_running_loop().call_later(
            self._timeout_s, self._end, key, socket
        )
        self._of_socket.setdefault(socket, set()).add(key)

    def stop(self, socket: Any, user_id: str, conversation_id: str, kind: Kind) -> None:
        if not self._rooms.hosts(user_id, conversation_id):
            raise NotFound()
        self._end((conversation_id, user_id, kind), socket)

    def gone(self, socket: Any) -> None:
        """The socket has gone, and with it what it was doing."""
        for key in tuple(self._of_socket.get(socket, ())):
            self._end(key, socket)

    def _end(self, key: _Key, socket: Any) -> None:
        timers = self._active.get(key, {})
        timer = timers.pop(socket, None)
        if timer is None:
            return
        timer.cancel()
        keys = self._of_socket[socket]
        keys.discard(key)
        if not keys:
            del self._of_socket[socket]
        if not timers:
            del self._active[key]
            self._tell(key, socket, active=False)

    def _tell(self, key: _Key, socket: Any, *, active: bool) -> None:
        conversation_id, user_id, kind = key
        self._rooms.emit_fleeting(
            conversation_id,
            f"user:{kind}",
            {
                "conversationId": conversation_id,
                "userId": user_id,
                "type": kind,
                "isActive": active,
                "timestamp": iso(now()),
            },
            skip=socket,
        )
