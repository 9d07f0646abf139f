"""Serves the API reference. It has no secrets, and loads nothing from other hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib import resources

from aiohttp import web

from ... import json_codec
from .asyncapi import asyncapi
from .openapi import openapi
from .pages import events_page, rest_page

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


FILES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "/docs": ("text/html", lambda: rest_page(openapi())),
    "/docs/events": ("text/html", lambda: events_page(asyncapi())),
    "/docs/openapi.json": ("application/json", lambda: json_codec.encode(openapi()).decode()),
    "/docs/asyncapi.json": ("application/json", lambda: json_codec.encode(asyncapi()).decode()),
    "/docs/page.css": (
        "text/css",
        lambda: resources.files(__package__).joinpath("page.css").read_text(),
    ),
}


def add_to(router: web.UrlDispatcher) -> None:
    for path, (kind, make) in FILES.items():
        router.add_get(path, _serve(kind, make))


def _serve(kind: str, make: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    text = cache(make)  # generated at the first request: it takes a tenth of a second

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=text(), content_type=kind, headers=HEADERS)

    return serve
