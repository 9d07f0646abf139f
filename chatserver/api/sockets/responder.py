"""Calls the handlers of events, and sends, measures and logs their responses."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import structlog

from ...chat.chat import Chat
from ...errors import ChatError
from ...observability.metrics import Metrics
from ...observability.spans import Span, set_current_span, traced
from ...realtime import Connection
from ..error_mapping import refusal
from ..requests.parse import ids_of, printable
from .client_events import ClientEvent

if TYPE_CHECKING:
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)


class Call:
    """An accepted event."""

    __slots__ = ("event", "packet_id", "request", "span", "started")

    def __init__(
        self, event: ClientEvent, request: Any, packet_id: int | None, started: float
    ) -> None:
        self.event = event
        self.request = request
        self.packet_id = packet_id
        self.started = started
        self.span: Span | None = None


class Responder:
    """Answers every event, in one shape, and notes it in the log and the metrics."""

    def __init__(self, chat: Chat, metrics: Metrics, tracing: Tracing | None) -> None:
        self._chat = chat
        self._tracing = tracing
        self.tasks: set[asyncio.Task[None]] = set()
        """The handlers that are running."""
        self._metrics = metrics

    def arrived(self, connection: Connection, call: Call) -> Call:
        if self._tracing is not None:
            about = {"chat.door": "socket", "chat.sid": connection.sid, **ids_of(call.request)}
            call.span = self._tracing.arrived(call.event.name, call.started, about)
        return call

    def begin(self, connection: Connection, call: Call) -> Any:
        """Calls the event's handler."""
        if self._tracing is not None:
            set_current_span(call.span)
        return call.event.handler(self._chat, connection, call.request)

    def answer(self, connection: Connection, call: Call, result: Any) -> None:
        """Sends the response that is made of the handler's result."""
        data = call.event.data(result)
        if call.packet_id is not None:
            connection.ack(call.packet_id, {"ok": True, "data": data})
        elif call.event.reply:
            connection.emit(call.event.reply, data)
        self.note(call.event.name, "OK", call.started, connection, call.request, call.span)

    def fail(self, connection: Connection, call: Call, error: BaseException) -> None:
        name, packet_id, span = call.event.name, call.packet_id, call.span
        refused = refusal(error, sid=connection.sid, **traced(span))
        self.refuse(
            connection, name, refused, packet_id, call.started, request=call.request, span=span
        )

    def refuse(
        self,
        connection: Connection,
        name: str,
        error: ChatError,
        packet_id: int | None,
        started: float,
        *,
        given_name: str | None = None,
        request: Any = None,
        span: Span | None = None,
    ) -> None:
        if packet_id is not None:
            connection.ack(packet_id, {"ok": False, "error": error.wire()})
        else:
            connection.emit("error", {**error.wire(), "event": printable(given_name or name)})
        self.note(name, error.code, started, connection, request, span)

    def note(
        self,
        name: str,
        code: str,
        started: float,
        connection: Connection,
        request: Any = None,
        span: Span | None = None,
    ) -> None:
        seconds = time.perf_counter() - started
        self._metrics.observe("socket", name, code, seconds)
        if span is not None:
            span.end(code)
        if log.is_enabled_for(logging.INFO):
            log.info(
                "event",
                name=name,
                code=code,
                ms=round(seconds * 1000, 2),
                sid=connection.sid,
                user=connection.user_id,
                **ids_of(request),
                **traced(span),
            )

    async def close(self) -> None:
        """Waits for the events that are being handled."""
        while self.tasks:
            await asyncio.wait(self.tasks)
