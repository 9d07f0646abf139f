"""An OpenTelemetry collector for the tests: a real HTTP server that decodes the spans that it receives.

async with Collector() as collector:
    server = await start(**collector.settings)
    …
    await collector.until(lambda: collector.named("message:send"))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from .patience import PATIENCE_S


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    """Ids of spans."""
    attributes: dict[str, Any]
    began: int
    ended: int
    failed: bool
    kind: int


class Collector:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def settings(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def of(self, trace: str) -> dict[str, Span]:
        """Returns the spans of a trace by name. Every name must occur once."""
        found = [span for span in self.spans if span.trace == trace]
        by_name = {span.name: span for span in found}
        assert len(by_name) == len(found), [span.name for span in found]
        return by_name

    async def until(self, true: Callable[[], object], within: float = PATIENCE_S) -> None:
        async with asyncio.timeout(within):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        sent = trace_service_pb2.ExportTraceServiceRequest.FromString(await request.read())
        for of_resource in sent.resource_spans:
            resource = values(of_resource.resource.attributes)
            self.resources.append(resource)
            for scope in of_resource.scope_spans:
                self.spans += [span(received, resource["service.name"]) for received in scope.spans]
        self._news.set()
        return web.Response(
            body=trace_service_pb2.ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


def values(attributes: Any) -> dict[str, Any]:
    return {
        attribute.key: getattr(attribute.value, str(attribute.value.WhichOneof("value")))
        for attribute in attributes
    }


def span(received: trace_pb2.Span, service: str) -> Span:
    return Span(
        service=service,
        name=received.name,
        trace=received.trace_id.hex(),
        id=received.span_id.hex(),
        parent=received.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in received.links),
        attributes=values(received.attributes),
        began=received.start_time_unix_nano,
        ended=received.end_time_unix_nano,
        failed=received.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        kind=received.kind,
    )
