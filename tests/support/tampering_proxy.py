"""A proxy between a server and its clients that changes packets in ways that no server may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

import aiohttp
from aiohttp import web

NEW = '42["message:new"'


class Meddler:
    """Forwards everything over WebSocket. On the first connection, `fault` gets the second and third
    `message:new`, and its result is forwarded in their place."""

    def __init__(self, ws_port: int, fault: Callable[[list[str]], list[str]]) -> None:
        self._behind = f"http://127.0.0.1:{ws_port}"
        self._fault = fault
        self._victims = 1
        self.port = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/socket.io/", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self._http = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        await self._runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse(max_msg_size=0)
        await client.prepare(request)
        url = f"{self._behind}{request.path_qs}"
        async with self._http.ws_connect(url, max_msg_size=0) as server:
            meddled, self._victims = self._victims > 0, self._victims - 1
            down = asyncio.create_task(self._down(server, client, meddled=meddled))
            async for frame in client:
                await server.send_str(frame.data)
            down.cancel()
        return client

    async def _down(
        self,
        server: aiohttp.ClientWebSocketResponse,
        client: web.WebSocketResponse,
        *,
        meddled: bool,
    ) -> None:
        new: list[str] = []
        async for frame in server:
            texts = [frame.data]
            if meddled and frame.data.startswith(NEW) and len(new) < 3:
                new.append(frame.data)
                if len(new) > 1:
                    texts = self._fault(new[1:]) if len(new) == 3 else []
            for text in texts:
                await client.send_str(text)
        await client.close()
