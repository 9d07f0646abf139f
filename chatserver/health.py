"""Alive, ready, and what there is to measure."""

from __future__ import annotations

from aiohttp import web

from . import wire
from .metrics import Metrics
from .mongo import Mongo, PyMongoError


class Health:
    """/health: the process answers. /ready: what it depends on answers, and it is not going away."""

    def __init__(self, mongo: Mongo, metrics: Metrics) -> None:
        self._mongo = mongo
        self._metrics = metrics
        self._draining = False

    def drain(self) -> None:
        self._draining = True

    def add_public_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/health", self._health)

    def add_private_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/health", self._health)
        router.add_get("/ready", self._ready)
        router.add_get("/metrics", self._exposition)

    async def _health(self, _: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        if self._draining:
            return _json({"status": "draining"}, 503)
        try:
            await self._mongo.ping()
        except PyMongoError:
            return _json({"status": "unavailable", "mongo": "does not answer"}, 503)
        return _json({"status": "ready", "mongo": "ok"})

    async def _exposition(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=wire.encode(body), status=status, content_type="application/json")
