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
        self._free = sink.concurrency
        """Calls that may start. 0 while anything waits."""
        self._waiting: deque[_Waiting] = deque()

    def watch(self, metrics: Families) -> None:
        metrics.memory(f"{self._name}: waiting calls", lambda: len(self._waiting), None)

    async def deliver(self, queue: KeyQueue, events: Sequence[Event]) -> Sequence[Delivery] | None:
        """Returns a result per event; None, and sends nothing, if the queue is another relay's by then.

        `events`: successive events of the queue's key; more than one only if the sink keeps order.
        """
        others: Sequence[_Waiting] = ()
        if self._free:
            self._free -= 1
        else:
            own = _Waiting(queue, events, asyncio.get_running_loop().create_future())
            self._waiting.append(own)
            if not await own.makes_call:
                return own.deliveries
            others = self._others(self._sink.max_batch - len(events))
        try:
            return await self._call_with(others, queue, events)
        finally:
            for other in others:
                _end_wait(other, makes_call=False)
            self._pass_on()

    def _others(self, room: int) -> Sequence[_Waiting]:
        others = []
        while self._waiting and len(self._waiting[0].events) <= room:
            others.append(self._waiting.popleft())
            room -= len(others[-1].events)
        return others

    def _pass_on(self) -> None:
        while self._waiting:
            if _end_wait(self._waiting.popleft(), makes_call=True):
                return
        self._free += 1

    async def _call_with(
        self, others: Sequence[_Waiting], queue: KeyQueue, events: Sequence[Event]
    ) -> Sequence[Delivery] | None:
        # Asked only now: the wait may have lasted longer than the lease.
        others = [other for other in others if self._is_ours(other.queue)] if others else ()
        own = events if self._is_ours(queue) else ()
        if not others:
            return await self._attempt(own) if own else None
        deliveries = await self._attempt(
            [*own, *(event for other in others for event in other.events)]
        )
        end = len(own)
        for other in others:
            start, end = end, end + len(other.events)
            other.deliveries = deliveries[start:end]
        return deliveries[: len(own)] if own else None

    async def _attempt(self, events: Sequence[Event]) -> Sequence[Delivery]:
        began = time.perf_counter()
        deliveries = await (self._call(events) if self._tracing is None else self._traced(events))
        seconds = time.perf_counter() - began
        for event, delivery in zip(events, deliveries, strict=True):
            since = (now() - event.at).total_seconds()
            self._observe(self._name, delivery.outcome, seconds, since)
        return deliveries

    async def _traced(self, events: Sequence[Event]) -> Sequence[Delivery]:
        spans = [self._span(event) for event in events]
        deliveries = await self._call(
            [
                event if span is None else replace(event, traceparent=span.traceparent)
                for event, span in zip(events, spans, strict=True)
            ]
        )
        for span, delivery in zip(spans, deliveries, strict=True):
            if span is not None:
                code = "OK" if delivery.outcome == "delivered" else delivery.outcome
                span.end(code, {"chat.says": delivery.detail})
        return deliveries

    def _span(self, event: Event) -> Span | None:
        if self._tracing is None or not event.traceparent:
            return None
        about = {"chat.endpoint": self._name, "chat.event.id": event.id}
        return self._tracing.leaves(f"{self._sink.kind} {event.type}", event.traceparent, about)

    async def _call(self, events: Sequence[Event]) -> Sequence[Delivery]:
        limit_s = self._sink.limit_s
        try:
            if limit_s is None:
                deliveries = await self._sink.deliver(events)
            else:
                async with asyncio.timeout(limit_s):
                    deliveries = await self._sink.deliver(events)
            if len(deliveries) == len(events):
                return deliveries
            raise ValueError(f"{len(deliveries)} results for {len(events)} events")
        except Exception as error:  # these events must not stop the delivery of the others
            if limit_s is not None and isinstance(error, TimeoutError):
                return [Delivery("failed", f"did not answer within {limit_s:g} s")] * len(events)
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
            return [Delivery("failed", f"request failed: {type(error).__name__}")] * len(events)


def _end_wait(waiting: _Waiting, *, makes_call: bool) -> bool:
    """Returns False if the caller was cancelled while it waited."""
    if waiting.makes_call.done():
        return False
    waiting.makes_call.set_result(makes_call)
    return True
