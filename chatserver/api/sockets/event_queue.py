"""The events of one socket, in order."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from typing import Any

from ...realtime import Connection
from ..error_mapping import HANDLER_S
from .responder import Call, Responder

UNDER_WAY = 64
"""Maximum number of unanswered sends per socket. Further events wait."""
BACKLOG = 128
"""Maximum number of waiting events per socket. At this number the socket is not read until half are done."""


class EventQueue:
    """The events of one connection, first in, first out, with back-pressure.

    The next event starts when the previous one has ended, or has its place in the order of its conversation.
    """

    __slots__ = ("_backlog", "_busy", "_connection", "_gone", "_paused", "_responder", "_under_way")

    def __init__(self, responder: Responder, connection: Connection) -> None:
        self._responder = responder
        self._connection = connection
        self._backlog: deque[Call] | None = None
        """None until an event has to wait, to save memory: most clients are silent."""
        self._busy = False
        self._under_way = 0
        self._paused = False
        self._gone = False

    def put(self, call: Call) -> None:
        if self._busy or self._backlog:
            self._wait(call)
        else:
            self._begin(call)

    def end(self) -> None:
        """The socket is closed: waiting events are discarded."""
        self._gone = True
        self._backlog = None

    def _wait(self, call: Call) -> None:
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(call)
        if len(self._backlog) >= BACKLOG and not self._paused:
            self._paused = True
            self._connection.pause(True)

    def _begin(self, call: Call) -> None:
        if call.event.takes_turn:
            if self._under_way:
                # Wait for earlier sends, so that a sync right after a send includes the message.
                self._wait(call)
                return
            self._take_turn(call, self._responder.begin(self._connection, call))
            return
        if self._under_way >= UNDER_WAY:
            self._wait(call)
            return
        try:
            result = self._responder.begin(self._connection, call)
        except Exception as error:  # the door always answers
            self._responder.fail(self._connection, call, error)
            return
        if isinstance(result, asyncio.Future):
            self._launch(call, result)
        elif inspect.iscoroutine(result):
            self._take_turn(call, result)
        else:
            self._responder.answer(self._connection, call, result)

    def _launch(self, call: Call, result: asyncio.Future[Any]) -> None:
        """The event has its place in the order, so the next one may start."""
        self._under_way += 1
        result.add_done_callback(lambda done: self._landed(call, done))

    def _landed(self, call: Call, done: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if (error := done.exception()) is not None:
            self._responder.fail(self._connection, call, error)
        else:
            self._responder.answer(self._connection, call, done.result())
        if self._backlog:
            self._go_on()

    def _take_turn(self, call: Call, work: Any) -> None:
        self._busy = True
        task = asyncio.get_running_loop().create_task(self._run(call, work))
        self._responder.tasks.add(task)
        task.add_done_callback(self._responder.tasks.discard)

    async def _run(self, call: Call, work: Any) -> None:
        # Counted from the arrival: an event that had to wait gets no extra time.
        left = HANDLER_S - (time.perf_counter() - call.started)
        try:
            async with asyncio.timeout(max(left, 0.0)):
                result = await work
        except Exception as error:  # the door always answers
            self._responder.fail(self._connection, call, error)
        else:
            if isinstance(result, asyncio.Future):
                self._launch(call, result)
                return
            self._responder.answer(self._connection, call, result)
            await self._let_read()
        finally:
            self._busy = False
            self._go_on()

    async def _let_read(self) -> None:
        """Waits until the client has read the responses. This wait does not use up the time of queued events."""
        began = time.perf_counter()
        await self._connection.session.drained()
        ended = time.perf_counter()
        for call in self._backlog or ():
            call.started = min(call.started + ended - began, ended)

    def _go_on(self) -> None:
        while self._backlog and not self._busy:
            backlog, waiting = self._backlog, len(self._backlog)
            self._begin(backlog.popleft())
            if len(backlog) == waiting:
                # It has to wait again, so it goes back to the front.
                backlog.rotate(1)
                break
        if self._paused and len(self._backlog or ()) <= BACKLOG // 2 and not self._gone:
            self._paused = False
            self._connection.pause(False)
