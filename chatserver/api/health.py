"""The probes: /health, /ready and /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import structlog
from aiohttp import ClientError, web

from .. import json_codec
from ..mongo import Mongo, PyMongoError
from .http import Port, errors, listen
from .responses.health import Alive, NotReady, Ready
from .responses.response import Answer

log = structlog.get_logger(__name__)

SCRAPE_S = 1.0
"""Metrics that take longer are left out, so that a scrape still returns the others."""

Exposition = Callable[[], Awaitable[bytes]]
"""Returns families of metrics in Prometheus' format. No two expositions of a process share a family."""
NO_PARTS: Mapping[str, Callable[[], bool]] = MappingProxyType({})


class Health:
    """/health: the process responds. /ready: it has started, its dependencies respond, and it is not draining.

    `parts`: further conditions of /ready, by name. `starting`: returns what the process does before it is ready,
    for /ready until `started` is called.
    """

    def __init__(
        self,
        mongo: Mongo,
        expositions: Sequence[Exposition],
        parts: Mapping[str, Callable[[], bool]] = NO_PARTS,
        starting: Callable[[], str] | None = None,
    ) -> None:
        self._mongo = mongo
        self._expositions = expositions
        self._parts = parts
        self._starting = starting
        self._draining = False

    def started(self, expositions: Sequence[Exposition] = ()) -> None:
        """The process is ready. `expositions`: metrics that it has only now."""
        self._starting = None
        self._expositions = [*self._expositions, *expositions]

    def drain(self) -> None:
        self._draining = True

    async def listen(self, stack: AsyncExitStack, at: Path | tuple[Sequence[str], int]) -> None:
        """Serves all probes: on a Unix socket, to the parent of this process; or on hosts and a port."""
        app = web.Application(middlewares=[errors])
        self.add_private_to(app.router)
        await listen(stack, app, at if isinstance(at, Path) else Port(*at), shutdown_timeout=1.0)

    def add_public_to(self, router: web.UrlDispatcher) -> None:
        self._add(router, [probe for probe in PROBES if probe.public])

    def add_private_to(self, router: web.UrlDispatcher) -> None:
        self._add(router, PROBES)

    def _add(self, router: web.UrlDispatcher, probes: Sequence[Probe]) -> None:
        for probe in probes:
            router.add_get(probe.path, partial(probe.handler, self))

    async def health(self, _: web.Request) -> web.Response:
        """Check that the process responds. Its dependencies are not checked."""
        return _json({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        """Check that this node can take clients."""
        if self._draining:
            return _json({"status": "draining"}, 503)
        if self._starting is not None:
            return _json({"status": "starting", "reason": self._starting()}, 503)
        if self._mongo.stalled:
            return _json({"status": "unavailable", "mongo": "is stalled"}, 503)
        try:
            await self._mongo.ping()
        except PyMongoError:
            return _json({"status": "unavailable", "mongo": "does not answer"}, 503)
        parts = {name: "ok" if well() else "is not ready" for name, well in self._parts.items()}
        ready = all(state == "ok" for state in parts.values())
        status, code = ("ready", 200) if ready else ("unavailable", 503)
        return _json({"status": status, "mongo": "ok", **parts}, code)

    async def metrics(self, _: web.Request) -> web.Response:
        """Get the metrics, in Prometheus' text format."""
        parts = await asyncio.gather(*map(_exposed, self._expositions))
        return web.Response(
            body=b"".join(parts),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


async def _exposed(exposition: Exposition) -> bytes:
    try:
        async with asyncio.timeout(SCRAPE_S):
            return await exposition()
    except (PyMongoError, OSError, ClientError) as error:  # a TimeoutError is an OSError
        log.info("metrics.absent", reason=str(error) or type(error).__name__)
        return b""


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe. `answers`: by status, its meaning and its body; None: text. `public`: True if the port for
    clients serves it, too; the other probes reveal internals."""

    path: str
    handler: Callable[[Health, web.Request], Awaitable[web.Response]]
    answers: Mapping[int, tuple[str, type[Answer] | None]]
    public: bool = False


PROBES: Sequence[Probe] = [
    Probe("/health", Health.health, {200: ("The process responds.", Alive)}, public=True),
    Probe(
        "/ready",
        Health.ready,
        {
            200: ("The node is ready.", Ready),
            503: ("This node is starting or draining, or the database does not respond.", NotReady),
        },
    ),
    Probe("/metrics", Health.metrics, {200: ("`docs/operations.md` explains each metric.", None)}),
]


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=json_codec.encode(body), status=status, content_type="application/json"
    )
