"""Applications on realtime/ that echo messages, and a client for them that works request by request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from chatserver.realtime import EngineServer, RealtimeServer

from .patience import PATIENCE_S

INTERVAL_S, TIMEOUT_S = 0.3, 0.2
HURRIED = {"ping_interval": INTERVAL_S, "ping_timeout": TIMEOUT_S}
"""Options of a server with a short heartbeat."""
SEPARATOR = "\x1e"
Answer = tuple[int, str]


def engine(**options: Any) -> EngineServer:
    server = EngineServer(async_mode="aiohttp", **options)

    async def message(sid: str, data: Any) -> None:
        await server.send(sid, data)

    server.on("message", message)
    return server


def realtime(**options: Any) -> RealtimeServer:
    """A server that emits each `message` back as `message-back`, acknowledges `message-with-ack` with its
    arguments, and emits `auth` with the handshake's auth to each client that connects."""
    sio = RealtimeServer(**options)

    def answer_in(namespace: str) -> None:
        async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
            await sio.emit("auth", auth or {}, to=sid, namespace=namespace)

        async def message(sid: str, *data: Any) -> None:
            await sio.emit("message-back", data, to=sid, namespace=namespace)

        def with_ack(sid: str, *data: Any) -> tuple[Any, ...]:
            return data

        sio.on("connect", connect, namespace=namespace)
        sio.on("message", message, namespace=namespace)
        sio.on("message-with-ack", with_ack, namespace=namespace)

    for namespace in ("/", "/custom"):
        answer_in(namespace)
    return sio


@asynccontextmanager
async def serving(server: EngineServer | RealtimeServer) -> AsyncIterator[str]:
    """Serve in an aiohttp application in this event loop. Yields the URL of the endpoint."""
    app = web.Application()
    path = "engine.io" if isinstance(server, EngineServer) else "socket.io"
    server.attach(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/{path}/"
    finally:
        await runner.cleanup()


class Raw:
    """Sends single requests to an endpoint. Every poll has a connection of its own."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session
        self.opened: dict[str, Any] = {}

    @property
    def sid(self) -> str:
        return str(self.opened["sid"])

    async def ask(self, method: str, query: str, body: Any = None) -> Answer:
        async with self.session.request(method, self.url + query, data=body) as answer:
            return answer.status, await answer.text()

    def websocket(self, sid: str | None = None, **options: Any) -> Any:
        query = "?EIO=4&transport=websocket" + (f"&sid={sid}" if sid else "")
        return self.session.ws_connect(self.url + query, autoclose=False, **options)

    # --- one session that polls -------------------------------------------------------------------

    async def open(self) -> str:
        status, body = await self.ask("GET", "?EIO=4&transport=polling")
        assert status == 200
        assert body[0] == "0"
        self.opened = json.loads(body[1:])
        return self.sid

    async def get(self) -> Answer:
        return await self.ask("GET", f"?EIO=4&transport=polling&sid={self.sid}")

    async def post(self, *packets: str) -> Answer:
        body = SEPARATOR.join(packets)
        return await self.ask("POST", f"?EIO=4&transport=polling&sid={self.sid}", body)


async def closed(
    websocket: aiohttp.ClientWebSocketResponse, within: float = PATIENCE_S
) -> int | None:
    """Returns the code with which the server closes the WebSocket. Messages before that are ignored."""
    while True:
        message = await websocket.receive(timeout=within)
        if message.type is aiohttp.WSMsgType.CLOSE:
            return int(message.data)
        if message.type is aiohttp.WSMsgType.CLOSED:
            return None
