"""Traces, sent to an OpenTelemetry collector (the extra `tracing`). Imported only when they are on.

Where to, how much of it and under what name is said by OpenTelemetry's own variables, which its SDK reads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__
from . import spans
from .spans import NOTHING, About

log = structlog.get_logger(__name__)

CLOSE_S = 3.0
OURS = frozenset({"INTERNAL", "UNAVAILABLE", "failed", "gone"})
"""Codes of failures that are not the caller's."""

_PROPAGATOR = TraceContextTextMapPropagator()


class Traced:
    """A span of OpenTelemetry (spans.Span)."""

    __slots__ = ("_span", "_tracer", "over")

    def __init__(self, tracer: Tracer, span: OtelSpan) -> None:
        self._tracer = tracer
        self._span = span
        self.over = False

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def below(self, name: str, links: Sequence[spans.Span] = (), about: About = NOTHING) -> Traced:
        span = self._tracer.start_span(
            name,
            set_span_in_context(self._span),
            attributes=about,
            links=[
                Link(span._span.get_span_context()) for span in links if isinstance(span, Traced)
            ],
        )
        return Traced(self._tracer, span)

    def end(self, code: str = "OK", about: About = NOTHING) -> None:
        self.over = True
        self._span.set_attributes({"chat.code": code, **about})
        if code in OURS:
            self._span.set_status(Status(StatusCode.ERROR, code))
        self._span.end()


class Tracing:
    """Makes spans, and sends them from a thread of its own. `service`: its name, if no variable gives
    one. `instance`: which of several it is."""

    def __init__(self, service: str, instance: str) -> None:
        ours = {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": instance,
        }
        theirs = OTELResourceDetector().detect().attributes
        resource = Resource.create({key: value for key, value in ours.items() if key not in theirs})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("chatserver", __version__)

    def arrived(
        self,
        name: str,
        started: float,
        about: About,
        headers: Mapping[str, str] | None = None,
    ) -> Traced | None:
        """An event or request that arrived at `started` (of perf_counter), in the trace that its
        headers name, if any. None when this trace is not kept."""
        ago = int((time.perf_counter() - started) * 1e9)
        return self._begin(name, SpanKind.SERVER, _named(headers or {}), about, ago)

    def leaves(self, name: str, traceparent: str, about: About) -> Traced | None:
        """A request of ours to somebody else, in a trace that was kept when it began."""
        context = _named({"traceparent": traceparent})
        return self._begin(name, SpanKind.CLIENT, context, about)

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        context: Context,
        about: About,
        ago_ns: int = 0,
    ) -> Traced | None:
        span = self._tracer.start_span(
            name, context, kind, attributes=about, start_time=time.time_ns() - ago_ns
        )
        return Traced(self._tracer, span) if span.is_recording() else None

    async def close(self) -> None:
        """Send what is left; a collector that does not take it is not waited for."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        end = time.monotonic() + CLOSE_S
        while closing.is_alive() and time.monotonic() < end:  # noqa: ASYNC110  it is a thread
            await asyncio.sleep(0.01)
        if closing.is_alive():
            log.warning("the last traces were not sent")


def _named(headers: Mapping[str, str]) -> Context:
    # An empty context of its own: what was entered elsewhere in this one does not count.
    return _PROPAGATOR.extract(
        {key.lower(): value for key, value in headers.items() if key.lower() in _HEADERS},
        Context(),
    )


_HEADERS = frozenset({"traceparent", "tracestate"})
