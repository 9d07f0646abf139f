"""The received messages of a session whose handler may wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

FULL = 128
"""Messages that may wait. At this number reading from the client stops until half of them are handled."""


class HandlingServer(Protocol):
    """The part of the engine.io server that the queue uses."""

    async_handlers: bool

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...
    async def _trigger_event(self, event: str, *args: Any, **kwargs: Any) -> Any: ...


class ReceivingSession(Protocol):
    """The part of a session that its queue uses."""

    @property
    def sid(self) -> str: ...
    @property
    def server(self) -> HandlingServer: ...
    def pause(self, paused: bool) -> None: ...
    def queue_emptied(self) -> None: ...


class ReceiveQueue:
    """Passes messages to the handler of the engine.io server one after another, in order of arrival."""

    def __init__(self, session: ReceivingSession) -> None:
        self._session = session
        self._waiting: deque[str | bytes] = deque()
        self._busy = False
        self._paused = False
        self._room: asyncio.Future[None] | None = None

    def put(self, data: str | bytes) -> None:
        self._waiting.append(data)
        if not self._busy:
            self._busy = True
            self._session.server.spawn(self._work())
        elif len(self._waiting) >= FULL and not self._paused:
            self._paused = True
            self._session.pause(True)

    async def room(self) -> None:
        """Return when the queue is not full. A client that polls can be slowed down in no other way."""
        while len(self._waiting) >= FULL:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def clear(self) -> None:
        self._waiting.clear()
        self._make_room()

    async def _work(self) -> None:
        session = self._session
        server = session.server
        try:
            while self._waiting:
                data = self._waiting.popleft()
                if len(self._waiting) <= FULL // 2:
                    self._make_room()
                await server._trigger_event(
                    "message", session.sid, data, run_async=server.async_handlers
                )
        finally:
            self._busy = False
            if not self._waiting:
                session.queue_emptied()

    def _make_room(self) -> None:
        if self._paused:
            self._paused = False
            self._session.pause(False)
        if self._room is not None:
            room, self._room = self._room, None
            room.set_result(None)
