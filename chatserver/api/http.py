"""HTTP for the doors: listens, reads requests, and returns results and errors in one shape."""

from __future__ import annotations

import asyncio
import errno
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from .. import json_codec
from ..errors import (
    ChatError,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
    ValidationFailed,
)
from ..observability.metrics import Metrics
from ..observability.spans import Span, set_current_span, traced
from .error_mapping import refusal
from .requests.schema import Request, parse

if TYPE_CHECKING:
    from ..observability.tracing import Tracing

log = structlog.get_logger(__name__)

BACKLOG = 4096
MAX_BODY = 64 * 1024
REQUEST_ID = "X-Request-Id"
_REQUEST_ID = re.compile(r"[\w.:+/=~-]{1,128}", re.ASCII)
TRACING: web.AppKey[Tracing] = web.AppKey("tracing")
"""Set if tracing is on."""
TIMEOUT_S: web.AppKey[float] = web.AppKey("timeout_s")
"""Seconds after which a request is answered with UNAVAILABLE."""
MAX_PACKET: web.AppKey[int] = web.AppKey("max_packet")
"""Bytes of a body, unless its route allows more."""
WORKING: web.AppKey[set[asyncio.Task[Any]]] = web.AppKey("working")
HEADER_SECRET = "X-Internal-Secret"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Reply:
    """A result whose status the handler chooses. `body` None: no body."""

    status: int
    body: Any = None


def private_app(
    timeout_s: float, max_packet: int, tracing: Tracing | None, **options: Any
) -> web.Application:
    """Returns an application for the doors, whose requests `answer` handles."""
    app = web.Application(middlewares=[errors], **options)
    app[TIMEOUT_S] = timeout_s
    app[MAX_PACKET] = max_packet
    app[WORKING] = set()
    if tracing:
        app[TRACING] = tracing
    app.on_cleanup.append(_finish)
    return app


async def _finish(app: web.Application) -> None:
    while working := app[WORKING]:
        await asyncio.wait(working)


def bind(hosts: Iterable[str], port: int, *, shared: bool = False) -> list[socket.socket]:
    """Returns sockets that listen on every address of the hosts. `shared`: other processes may do so, too.

    A name may have addresses that this machine has not, such as ::1 where IPv6 is off: they are left out, if
    another one is left. Raises OSError.
    """
    bound: dict[Any, socket.socket] = {}
    with ExitStack() as opened:
        for host in hosts:
            missing: OSError | None = None
            before = len(bound)
            for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                try:
                    if address not in bound:
                        bound[address] = opened.enter_context(
                            socket.create_server(
                                address, family=family, backlog=BACKLOG, reuse_port=shared
                            )
                        )
                except OSError as error:
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    missing = error
            if missing is not None and len(bound) == before:
                raise missing
        opened.pop_all()
    return list(bound.values())


class Port:
    """A port of all `hosts` (see `bind`), which one application hands to the next: nobody is refused in between."""

    def __init__(self, hosts: Sequence[str], port: int, *, shared: bool = False) -> None:
        self._at = hosts, port
        self._shared = shared
        self._servers: Sequence[asyncio.Server] = ()
        self._accept: Callable[[], asyncio.BaseProtocol]

    async def give_to(
        self, stack: AsyncExitStack, accept: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        """From now on `accept` makes the protocols of new connections. The port closes with the stack.

        Raises OSError if it cannot listen.
        """
        self._accept = accept
        loop = asyncio.get_running_loop()
        self._servers = self._servers or [
            await loop.create_server(lambda: self._accept(), sock=bound, backlog=BACKLOG)
            for bound in bind(*self._at, shared=self._shared)
        ]
        for server in self._servers:
            stack.callback(server.close)


async def listen(
    stack: AsyncExitStack,
    app: web.Application,
    at: Path | Port,
    *,
    shutdown_timeout: float,
    **connections: Any,
) -> None:
    """Serves an application on a Unix socket or a port, until the stack closes.

    `shutdown_timeout`: seconds that requests in progress then have. `connections`: options of aiohttp's
    server. Raises OSError if it cannot listen.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=shutdown_timeout,
        **connections,
    )
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    if isinstance(at, Port):
        assert runner.server is not None  # noqa: S101
        await at.give_to(stack, runner.server)  # noqa: ASYNC240  it is no path
    else:
        await web.UnixSite(runner, at).start()


def pattern(path: str) -> str:
    """Returns a path for aiohttp's router, whose own placeholders do not match ids that contain braces."""
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)


def request_id(request: web.Request) -> str:
    """Returns the caller's id of the request, or else a random one. It is logged and sent back."""
    given = request.headers.get(REQUEST_ID, "")
    # Limited in length and characters, because it goes into the log and into a header.
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


async def answer(
    request: web.Request,
    metrics: Metrics,
    door: str,
    name: str,
    work: Callable[[], Awaitable[Any]],
    ids: dict[str, Any],
    *,
    ends_in_time: bool = False,
) -> web.Response:
    """Runs `work`, and returns its result or its error as a response. Logs and measures the request.

    If the client goes away, `work` continues in the background: what it has stored it must announce, too. So it does
    if it takes too long, unless it `ends_in_time` (see Operation).
    """
    started = time.perf_counter()
    code = "OK"
    whose = {"request": request_id(request)}
    span: Span | None = None
    if (tracing := request.app.get(TRACING)) is not None:
        about = {
            "chat.door": door,
            "http.request.method": request.method,
            "http.route": name.partition(" ")[2],
        }
        span = tracing.arrived(name, started, about, request.headers)
        set_current_span(span)
        whose |= traced(span)
    try:
        working = asyncio.ensure_future(work())
        request.app[WORKING].add(working)
        working.add_done_callback(request.app[WORKING].discard)
        if not (await asyncio.wait([working], timeout=request.app[TIMEOUT_S]))[0]:
            working.add_done_callback(partial(_ended_late, whose))
            if ends_in_time:
                working.cancel()
            raise Unavailable
        response = _response(working.result())
    except Exception as error:  # the door always answers
        refused = refusal(error, **whose)
        code = refused.code
        ids.update(refused.reason)
        response = refusal_response(refused)
    seconds = time.perf_counter() - started
    metrics.observe(door, name, code, seconds)
    if span is not None:
        about = {key: value for key, value in ids.items() if key != "user"}
        status = {"http.response.status_code": response.status}
        span.end(code, {**about, **status, "chat.request": whose["request"]})
    response.headers[REQUEST_ID] = whose["request"]
    ms = round(seconds * 1000, 2)
    log.info("request", door=door, name=name, code=code, ms=ms, **whose, **ids)
    return response


def _ended_late(whose: dict[str, str], working: asyncio.Task[Any]) -> None:
    if not working.cancelled() and (error := working.exception()) is not None:
        refusal(error, **whose)


async def read(request: web.Request, kind: type[Request], limit: int) -> Any:
    """Returns the payload of a request, merged from path, query and body. `limit`: bytes of a body, if more than
    usual.

    Raises ValidationFailed and PayloadTooLarge.
    """
    data: Any = {}
    if request.body_exists:
        limit = max(limit, request.app[MAX_PACKET])
        too_large = PayloadTooLarge(f"A body may have at most {limit} bytes.")
        if (request.content_length or 0) > json_codec.ESCAPED * limit:
            raise too_large
        try:
            async with asyncio.timeout(request.app[TIMEOUT_S]):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        except (ConnectionError, web.RequestPayloadError):
            # The client has gone, so nobody reads this.
            raise ValidationFailed("The body is incomplete.") from None
        if not json_codec.fits(body, limit):
            raise too_large
        if body:
            data = json_codec.decode(body)
            if not isinstance(data, dict):
                raise ValidationFailed("The body must be a JSON object.")
    for outside in (request.query, request.match_info):
        for key, value in outside.items():
            if key in data:
                raise ValidationFailed.of(str(key), "Must be given only once.")
            data[key] = value
    return parse(kind, data)


def _response(result: Any) -> web.Response:
    status, body = (result.status, result.body) if isinstance(result, Reply) else (200, result)
    if body is None:
        return web.Response(status=status)
    return web.Response(
        status=status, body=json_codec.encode(body), content_type="application/json"
    )


def refusal_response(error: ChatError) -> web.Response:
    headers = (
        {"Retry-After": str(-int(-error.retry_after // 1))}
        if isinstance(error, RateLimited)
        else None
    )
    return web.Response(
        status=error.status,
        body=json_codec.encode({"error": error.wire()}),
        content_type="application/json",
        headers=headers,
    )


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Converts aiohttp's own errors to the one error shape, and forbids caches to keep what callers receive."""
    refused: web.Response | None = None
    try:
        response = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        refused = refusal_response(PayloadTooLarge())
    except web.HTTPNotFound:
        refused = refusal_response(NotFound("This endpoint does not exist."))
    except web.HTTPMethodNotAllowed as error:
        refused = refusal_response(NotFound(f"This endpoint does not support {error.method}."))
        refused.headers["Allow"] = error.headers["Allow"]
    if refused is not None:
        refused.headers[REQUEST_ID] = request_id(request)
        response = refused
    response.headers.setdefault("Cache-Control", "no-store")
    return response
