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
"""Sends of one socket that are not answered yet; further events wait their turn."""
BACKLOG = 128
"""Events of one socket that wait; past it the socket is not read from until half are done."""


class EventQueue:
    """The events of one connection, first in, first out, with back-pressure: the next event begins when
    the one before has ended, or has its place in the order of its conversation."""

    __slots__ = ("_backlog", "_busy", "_connection", "_gone", "_paused", "_responder", "_under_way")

    def __init__(self, responder: Responder, connection: Connection) -> None:
        self._responder = responder
        self._connection = connection
        self._backlog: deque[Call] | None = None
        """None where none ever waited: most clients are silent."""
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
        """The socket has gone: what waits is not begun."""
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
                # After what came before it: a sync right after a send has the message in it.
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
        """It has its place: the next may begin."""
        self._under_way += 1
        result.add_done_callback(lambda done: self._landed(call, done))

    def _landed(self, call: Call, done: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if (error := done.exception()) is not None:
            self._responder.fail(self._connection, call, error)
        else:
            self._responder.answer(self._connection, call, done.result().message.json)
        if self._backlog:
            self._go_on()

    def _take_turn(self, call: Call, work: Any) -> None:
        self._busy = True
        task = asyncio.get_running_loop().create_task(self._run(call, work))
        self._responder.tasks.add(task)
        task.add_done_callback(self._responder.tasks.discard)

    async def _run(self, call: Call, work: Any) -> None:
        # From its arrival: what had to wait for others has less time left, not more to wait.
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
            data = getattr(getattr(result, "message", None), "json", result)
            self._responder.answer(self._connection, call, data)
            await self._let_read()
        finally:
            self._busy = False
            self._go_on()

    async def _let_read(self) -> None:
        """The next begins when the client has taken the answers; what waited for that has no less time."""
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
                # It went back to wait, behind nobody: put it first again.
                backlog.rotate(1)
                break
        if self._paused and len(self._backlog or ()) <= BACKLOG // 2 and not self._gone:
            self._paused = False
            self._connection.pause(False)
