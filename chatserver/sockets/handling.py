"""What is being handled for the sockets, and how it is answered."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import structlog

from ..chat.chat import Chat
from ..errors import ChatError
from ..metrics import Metrics
from ..realtime import Connection
from ..refusals import refusal
from ..requests.parse import ids_of, printable
from .event import Event

log = structlog.get_logger(__name__)


class Call:
    """An event that was let in."""

    __slots__ = ("event", "packet_id", "request", "started")

    def __init__(self, event: Event, request: Any, packet_id: int | None, started: float) -> None:
        self.event = event
        self.request = request
        self.packet_id = packet_id
        self.started = started


class Handling:
    """Every event is answered, in one shape, and noted."""

    def __init__(self, chat: Chat, metrics: Metrics) -> None:
        self.chat = chat
        self.tasks: set[asyncio.Task[None]] = set()
        """Those under way."""
        self._metrics = metrics

    def answer(self, connection: Connection, call: Call, data: Any) -> None:
        if call.packet_id is not None:
            connection.ack(call.packet_id, {"ok": True, "data": data})
        elif call.event.reply:
            connection.emit(call.event.reply, data)
        self.note(call.event.name, "OK", call.started, connection, call.request)

    def fail(self, connection: Connection, call: Call, error: BaseException) -> None:
        name, packet_id = call.event.name, call.packet_id
        self.refuse(connection, name, refusal(error), packet_id, call.started, request=call.request)

    def refuse(
        self,
        connection: Connection,
        name: str,
        error: ChatError,
        packet_id: int | None,
        started: float,
        *,
        said: str | None = None,
        request: Any = None,
    ) -> None:
        if packet_id is not None:
            connection.ack(packet_id, {"ok": False, "error": error.wire()})
        else:
            connection.emit("error", {**error.wire(), "event": printable(said or name)})
        self.note(name, error.code, started, connection, request)

    def note(
        self, name: str, code: str, started: float, connection: Connection, request: Any = None
    ) -> None:
        seconds = time.perf_counter() - started
        self._metrics.observe("socket", name, code, seconds)
        if log.is_enabled_for(logging.INFO):
            log.info(
                "event",
                name=name,
                code=code,
                ms=round(seconds * 1000, 2),
                sid=connection.sid,
                user=connection.user_id,
                **ids_of(request),
            )

    async def close(self) -> None:
        """Wait for what is being handled."""
        while self.tasks:
            await asyncio.wait(self.tasks)
