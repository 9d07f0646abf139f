"""Hands events to a sink, in batches if it takes them, and turns whatever happens into results."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from ...clock import now
from ...observability.metrics import Families
from ..event import Event
from ..sinks.sink import Delivery, Sink
from .key_queue import KeyQueue

if TYPE_CHECKING:
    from ...observability.spans import Span
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)

Observe = Callable[[str, str, float, float], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    """Events that wait for a call, and their caller."""

    queue: KeyQueue
    events: Sequence[Event]
    makes_call: asyncio.Future[bool]
    """The end of the wait. False: another caller took the events along, and `deliveries` are its results."""
    deliveries: Sequence[Delivery] | None = None


class Batches:
    """At most `sink.concurrency` calls of the sink run at a time. There is no timer: events that find a call free
    leave at once and alone; those that arrive while all calls are taken leave together with the next.

    A caller makes the call in its own task and takes along whoever waits. So a sink that takes single events
    costs no more than a semaphore would.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        is_ours: Callable[[KeyQueue], bool],
        observe: Observe,
        tracing: Tracing | None,
    ) -> None:
        self._name = name
        self._sink = sink
        self._is_ours = is_ours
        self._observe = observe
        self._tracing = tracing
        self._loop = asyncio.get_running_loop()
        self._free = sink.concurrency
        """Calls that may start. 0 while anything waits."""
        self._waiting: deque[_Waiting] = deque()

    def watch(self, metrics: Families) -> None:
        metrics.memory(f"{self._name}: waiting calls", lambda: len(self._waiting), None)

    async def deliver(self, queue: KeyQueue, events: Sequence[Event]) -> Sequence[Delivery] | None:
        """Returns a result per event; None, and sends nothing, if the queue is another relay's by then.

        `events`: successive events of the queue's key; more than one only if the sink keeps order.
        """
        if self._free:
            self._free -= 1
        else:
            own = _Waiting(queue, events, self._loop.create_future())
            self._waiting.append(own)
            if not await own.makes_call:
                return own.deliveries
        try:
            # Asked only now: the wait may have lasted longer than the lease.
            events = events if self._is_ours(queue) else ()
            room = self._sink.max_batch - len(events)
            if room and self._waiting and (others := self._others(room)):
                return await self._attempt_with(others, events)
            return await self._attempt(events) if events else None
        finally:
            while self._waiting:
                if _end_wait(self._waiting.popleft(), makes_call=True):
                    break
            else:
                self._free += 1

    def _others(self, room: int) -> list[_Waiting]:
        """Those who come along."""
        others = []
        while self._waiting and len(self._waiting[0].events) <= room:
            other = self._waiting.popleft()
            if self._is_ours(other.queue):
                room -= len(other.events)
                others.append(other)
            else:
                _end_wait(other, makes_call=False)
        return others

    async def _attempt_with(
        self, others: Sequence[_Waiting], events: Sequence[Event]
    ) -> Sequence[Delivery] | None:
        try:
            deliveries = await self._attempt(
                [*events, *(event for other in others for event in other.events)]
            )
            end = len(events)
            for other in others:
                start, end = end, end + len(other.events)
                other.deliveries = deliveries[start:end]
            return deliveries[: len(events)] or None
        finally:
            for other in others:
                _end_wait(other, makes_call=False)

    async def _attempt(self, events: Sequence[Event]) -> Sequence[Delivery]:
        sent, spans = events, None
        if self._tracing is not None:
            sent, spans = self._traced(self._tracing, events)
        began = time.perf_counter()
        try:
            if self._sink.limit_s is None:
                deliveries = await self._sink.deliver(sent)
            else:
                async with asyncio.timeout(self._sink.limit_s):
                    deliveries = await self._sink.deliver(sent)
            if len(deliveries) != len(events):
                raise ValueError(f"{len(deliveries)} results for {len(events)} events")
        except Exception as error:  # these events must not stop the delivery of the others
            deliveries = [self._failure(events, error)] * len(events)
        seconds = time.perf_counter() - began
        for event, delivery in zip(events, deliveries, strict=True):
            since = (now() - event.at).total_seconds()
            self._observe(self._name, delivery.outcome, seconds, since)
        if spans is not None:
            _end_spans(spans, deliveries)
        return deliveries

    def _traced(
        self, tracing: Tracing, batch: Sequence[Event]
    ) -> tuple[Sequence[Event], Sequence[Span | None]]:
        """The events as they are sent, each in a span of its own if its trace is kept."""
        sent, spans = [], []
        for event in batch:
            about = {"chat.endpoint": self._name, "chat.event.id": event.id}
            name = f"{self._sink.kind} {event.type}"
            span = tracing.leaves(name, event.traceparent, about) if event.traceparent else None
            sent.append(replace(event, traceparent=span.traceparent) if span else event)
            spans.append(span)
        return sent, spans

    def _failure(self, events: Sequence[Event], error: Exception) -> Delivery:
        if isinstance(error, TimeoutError) and self._sink.limit_s is not None:
            return Delivery("failed", f"did not answer within {self._sink.limit_s:g} s")
        # The text of the error may contain the URL.
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error(
            "a sink failed",
            endpoint=self._name,
            events=len(events),
            event_id=events[0].id,
            error=type(error).__name__,
            where=f"{os.path.basename(place.filename)}:{place.lineno}",
        )
        return Delivery("failed", f"request failed: {type(error).__name__}")


def _end_spans(spans: Sequence[Span | None], deliveries: Sequence[Delivery]) -> None:
    for span, delivery in zip(spans, deliveries, strict=True):
        if span is not None:
            code = "OK" if delivery.outcome == "delivered" else delivery.outcome
            span.end(code, {"chat.says": delivery.detail})


def _end_wait(waiting: _Waiting, *, makes_call: bool) -> bool:
    """False if the caller was cancelled while it waited."""
    if waiting.makes_call.done():
        return False
    waiting.makes_call.set_result(makes_call)
    return True
