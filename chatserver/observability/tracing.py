"""Sends traces to an OpenTelemetry collector (the extra `tracing`). Imported only if tracing is on.

OpenTelemetry's SDK reads the collector, the sampling and the service name from its own variables.
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
"""Codes of failures that the caller did not cause."""

_PROPAGATOR = TraceContextTextMapPropagator()


class Traced:
    """An OpenTelemetry span (implements spans.Span)."""

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
    """Creates spans, and sends them from a separate thread.

    `service`: the service name, unless a variable sets one. `instance`: the id of this process.
    """

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
        """Starts the span of an event or request that arrived at `started` (by perf_counter), in the trace
        that its headers name, if any. Returns None if the trace is not sampled."""
        ago = int((time.perf_counter() - started) * 1e9)
        return self._begin(name, SpanKind.SERVER, _named(headers or {}), about, ago)

    def leaves(self, name: str, traceparent: str, about: About) -> Traced | None:
        """Starts the span of an outgoing request, in the trace of `traceparent`. Returns None if the trace
        is not sampled."""
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
        """Sends the remaining spans. Gives up after CLOSE_S if the collector does not accept them."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        end = time.monotonic() + CLOSE_S
        while closing.is_alive() and time.monotonic() < end:  # noqa: ASYNC110  it is a thread
            await asyncio.sleep(0.01)
        if closing.is_alive():
            log.warning("the last traces were not sent")


def _named(headers: Mapping[str, str]) -> Context:
    # An empty context, so that the current context's span does not become the parent.
    return _PROPAGATOR.extract(
        {key.lower(): value for key, value in headers.items() if key.lower() in _HEADERS},
        Context(),
    )


_HEADERS = frozenset({"traceparent", "tracestate"})
