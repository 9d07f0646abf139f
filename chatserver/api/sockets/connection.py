"""The connection of a client: reads the client's events, calls their handlers in order, and answers each event once.

- Events start in the order of arrival. A send has its place in the order when its handler returns, so the next event
  need not wait for its answer. A handler that waits starts when all earlier events have ended, and all later events
  wait for it.
- An event that cannot be read, is invalid or exceeds its rate limit is refused when it arrives.
- At most UNDER_WAY sends are unanswered. At BACKLOG waiting events the socket is not read.
- A handler that waits has `Services.timeout_s` from the arrival of its event, without the time in which the client
  does not read its answers. Its successor starts when the client has read most of them.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from ... import json_codec
from ...chat.chat import Chat
from ...errors import ChatError, PayloadTooLarge, RateLimited, Unavailable, ValidationFailed
from ...observability.metrics import Metrics
from ...observability.spans import Span, set_current_span, traced
from ...realtime import Connection
from ...realtime.engine.session import Session
from ..error_mapping import refusal
from ..operations.operation import Made
from ..rate_limits import Limits, Rate
from ..requests.schema import ids_of, parse, printable
from .client_events import ClientEvent

if TYPE_CHECKING:
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)

UNDER_WAY = 64
"""Maximum number of unanswered sends per connection. Further events wait."""
BACKLOG = 128
"""Maximum number of waiting events per connection. At this number the socket is not read until half are done."""
UNKNOWN = Rate(10)
KNOWN = 4096
KNOWN_BYTES = 256

_NAME = re.compile(rb'\[\s*"([^"\\]{1,100})"')


@dataclass(slots=True)
class Services:
    """The parts of the server that every connection uses."""

    chat: Chat
    events: Mapping[str, ClientEvent]
    limits: Limits
    metrics: Metrics
    tracing: Tracing | None
    timeout_s: float
    """Seconds after which an event or a connect is answered with UNAVAILABLE."""
    max_packet: int
    """Bytes: see Settings."""
    known: dict[bytes, tuple[ClientEvent, Any]] = field(default_factory=dict)
    """Parsed recurring events, by their text: each client sends its typing events again and again."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The handlers that are running."""

    def watch(self) -> None:
        self.metrics.memory("recurring events", lambda: len(self.known), KNOWN)
        self.metrics.memory("handlers", lambda: len(self.tasks), None)


class Call:
    """An accepted event."""

    __slots__ = ("event", "is_given_up", "packet_id", "request", "span", "started")

    def __init__(
        self, event: ClientEvent, request: Any, packet_id: int | None, started: float
    ) -> None:
        self.event = event
        self.request = request
        self.packet_id = packet_id
        self.started = started
        self.span: Span | None = None
        self.is_given_up = False


class ClientConnection(Connection):
    """The connection of one client. Its events are handled from `start` to `end`."""

    __slots__ = ("_backlog", "_busy", "_paused", "_services", "_started", "_under_way")

    def __init__(self, services: Services, session: Session, sid: str, user_id: str) -> None:
        super().__init__(session, sid, user_id)
        self._services = services
        self._backlog: deque[Call] | None = None
        """None until an event has to wait, to save memory: most clients are silent."""
        self._busy = False
        """True while a handler runs that all later events wait for."""
        self._under_way = 0
        self._paused = False
        self._started = False

    def start(self) -> None:
        self._started = True

    def end(self) -> None:
        """The client has disconnected: waiting events are discarded."""
        self._started = False
        self._backlog = None

    # --- an event arrives -----------------------------------------------------------------------

    def event(self, text: bytes, packet_id: int | None) -> None:
        started = time.perf_counter()
        services = self._services
        event: ClientEvent | None = None
        name: str | None = None
        try:
            if (known := services.known.get(text)) is not None:
                event, request = known
                services.limits.spend(self.user_id, event.name, event.limit)
            else:
                name, *payloads = _decoded(text, services.max_packet)
                event = services.events.get(name)
                if event is None:
                    raise ValidationFailed(details={"event": ["There is no event with this name."]})
                services.limits.spend(self.user_id, event.name, event.limit)
                request = self._parsed(event, payloads, text)
        except ChatError as error:
            self._refuse(event, error, packet_id, started, name or _name_in(text))
            return
        if not self._started:
            return  # The client does not know yet that it is connected, or was just disconnected.
        call = Call(event, request, packet_id, started)
        if services.tracing is not None:
            about = {"chat.door": "socket", "chat.sid": self.sid, **ids_of(request)}
            call.span = services.tracing.arrived(event.name, started, about)
        if self._backlog or not self._may_begin(event):
            self._wait(call)
        else:
            self._begin(call)

    def binary(self, text: bytes, packet_id: int | None) -> None:
        error = ValidationFailed("Binary data is not supported.")
        self._refuse(None, error, packet_id, time.perf_counter(), _name_in(text))

    def _parsed(self, event: ClientEvent, payloads: list[Any], text: bytes) -> Any:
        if len(payloads) > 1:
            raise ValidationFailed("An event may have only one payload.")
        request = parse(event.request, payloads[0] if payloads else {})
        if event.cost is not None:
            limits = self._services.limits
            limits.charge(self.user_id, event.name, event.limit, event.cost, request)
        elif event.recurs and len(text) <= KNOWN_BYTES:
            known = self._services.known
            if len(known) >= KNOWN:
                known.clear()
            known[text] = event, request
        return request

    # --- the order of events --------------------------------------------------------------------

    def _may_begin(self, event: ClientEvent) -> bool:
        if event.takes_turn:
            # Not before earlier sends have ended, so that a sync right after a send includes the message.
            return not self._busy and not self._under_way
        return not self._busy and self._under_way < UNDER_WAY

    def _wait(self, call: Call) -> None:
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(call)
        if len(self._backlog) >= BACKLOG and not self._paused:
            self._paused = True
            self.session.pause(True)

    def _begin(self, call: Call) -> None:
        services = self._services
        if services.tracing is not None:
            set_current_span(call.span)
        try:
            result = call.event.handler(services.chat, self, call.request)
        except Exception as error:  # the door always answers
            self._fail(call, error)
            return
        if isinstance(result, asyncio.Future):
            self._launch(call, result)
        elif inspect.iscoroutine(result):
            self._busy = True
            task = asyncio.get_running_loop().create_task(self._run(call, result))
            services.tasks.add(task)
            task.add_done_callback(services.tasks.discard)
        else:
            self._answer(call, result)

    def _launch(self, call: Call, result: asyncio.Future[Any]) -> None:
        """The event has its place in the order, so the next one may start."""
        self._under_way += 1
        result.add_done_callback(partial(self._landed, call))

    def _landed(self, call: Call, done: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if (error := done.exception()) is not None:
            self._fail(call, error)
        else:
            self._answer(call, done.result())
        if self._backlog:
            self._go_on()

    async def _run(self, call: Call, work: Any) -> None:
        # Counted from the arrival: an event that had to wait gets no extra time.
        left = self._services.timeout_s - (time.perf_counter() - call.started)
        task = asyncio.current_task()
        late = asyncio.get_running_loop().call_later(left, self._give_up, call, task)
        try:
            result = await work
        except Exception as error:  # the door always answers
            if call.is_given_up:
                refusal(error, sid=self.sid, **traced(call.span))
                return
            late.cancel()
            self._fail(call, error)
        else:
            if call.is_given_up:
                return
            late.cancel()
            if isinstance(result, asyncio.Future):
                self._launch(call, result)
                return
            self._answer(call, result)
            await self._let_read()
        finally:
            if not call.is_given_up:
                self._busy = False
                self._go_on()

    def _give_up(self, call: Call, task: asyncio.Task[None] | None) -> None:
        """Answers an event whose handler takes too long. The handler ends, or continues in the background."""
        call.is_given_up = True
        if call.event.ends_in_time and task is not None:
            task.cancel()
        self._fail(call, Unavailable())
        self._busy = False
        self._go_on()

    async def _let_read(self) -> None:
        """Waits until the client has read its answers. This wait does not use up the time of waiting events."""
        began = time.perf_counter()
        await self.session.drained()
        ended = time.perf_counter()
        for call in self._backlog or ():
            call.started = min(call.started + ended - began, ended)

    def _go_on(self) -> None:
        while self._backlog and self._may_begin(self._backlog[0].event):
            self._begin(self._backlog.popleft())
        if self._paused and self._started and len(self._backlog or ()) <= BACKLOG // 2:
            self._paused = False
            self.session.pause(False)

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, call: Call, result: Any) -> None:
        """Sends the response that is made of the handler's result."""
        event = call.event
        if event.present is not None:
            result = event.present(result)
        data = result.data if type(result) is Made else result
        if call.packet_id is not None:
            self.ack(call.packet_id, {"ok": True, "data": data})
        elif event.reply:
            self.emit(event.reply, data)
        self.note(event.name, "OK", call.started, call.request, call.span)

    def _fail(self, call: Call, error: BaseException) -> None:
        refused = refusal(error, sid=self.sid, **traced(call.span))
        if refused.reason:
            log.info("refused", sid=self.sid, code=refused.code, **refused.reason)
        self._send_error(refused, call.packet_id, call.event.name)
        self.note(call.event.name, refused.code, call.started, call.request, call.span)

    def _refuse(
        self,
        event: ClientEvent | None,
        error: ChatError,
        packet_id: int | None,
        started: float,
        given_name: str | None,
    ) -> None:
        """Refuses an event that is not accepted. `event` None: it is unknown, or cannot be read."""
        if event is None:
            try:
                self._services.limits.spend(self.user_id, "unknown", UNKNOWN)
            except RateLimited as limited:
                error = limited
        name = event.name if event is not None else "unknown"
        self._send_error(error, packet_id, given_name or name)
        self.note(name, error.code, started)

    def _send_error(self, error: ChatError, packet_id: int | None, name: str) -> None:
        if packet_id is not None:
            self.ack(packet_id, {"ok": False, "error": error.wire()})
        else:
            self.emit("error", {**error.wire(), "event": printable(name)})

    def note(
        self, name: str, code: str, started: float, request: Any = None, span: Span | None = None
    ) -> None:
        """Measures and logs an answered event. `code`: OK, or an error code."""
        seconds = time.perf_counter() - started
        self._services.metrics.observe("socket", name, code, seconds)
        if span is not None:
            span.end(code)
        if log.is_enabled_for(logging.INFO):
            ids = ids_of(request)
            if span is not None:
                ids |= traced(span)
            ms = round(seconds * 1000, 2)
            log.info("event", name=name, code=code, ms=ms, sid=self.sid, user=self.user_id, **ids)


def _decoded(text: bytes, max_packet: int) -> list[Any]:
    """Returns the event's name, a string, followed by its payloads. Raises ChatError."""
    if len(text) > max_packet and not json_codec.fits(text, max_packet):
        raise PayloadTooLarge(f"A packet may have at most {max_packet} bytes.")
    event: list[Any] = json_codec.decode(text)
    if not event:
        raise ValidationFailed("An event must have a name.")
    if not isinstance(event[0], str):
        raise ValidationFailed("The name of an event must be a string.")
    return event


def _name_in(text: bytes) -> str | None:
    """Returns the name of an event that is not decoded, or None if it cannot be recognised."""
    named = _NAME.match(text)
    return named.group(1).decode(errors="replace") if named else None
