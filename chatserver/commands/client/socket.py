"""One Socket.IO connection over WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import aiohttp

from ... import json_codec
from .failures import ConnectionLost, RefusedByServer, Unreachable

CONNECT_S = 20.0
"""The timeout of the official client."""
CLOSE_S = 2.0

Hear = Callable[[str, Any], None]
"""Called with an event and its payload, in the order in which the server sent them."""


class Socket:
    """Created by `open`. It does not reconnect: open another one instead.

    Each call is answered, or fails with ConnectionLost as soon as the connection closes.
    """

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, hear: Hear) -> None:
        self._websocket = websocket
        self._hear = hear
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._silence_s = CONNECT_S
        self._task = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str, token: str, hear: Hear) -> Socket:
        """Connect, and return after `connected`, when the socket is in its rooms. Raises RefusedByServer, Unreachable."""
        where = f"{url.rstrip('/')}/socket.io/?EIO=4&transport=websocket"
        try:
            async with asyncio.timeout(CONNECT_S):
                websocket = await http.ws_connect(where, max_msg_size=0)
                socket = cls(websocket, hear)
                try:
                    await websocket.send_str("40" + json_codec.encode({"token": token}).decode())
                    await socket._welcome
                except BaseException:  # a cancellation must not leave the socket open
                    await socket.close()
                    raise
        except (aiohttp.ClientError, OSError, ConnectionLost, ValueError) as error:
            raise Unreachable(url) from error  # a TimeoutError is an OSError
        return socket

    def start(self, event: str, payload: Any) -> asyncio.Future[Any]:
        """Send an event. The future returns the data of its acknowledgement, or raises RefusedByServer or ConnectionLost."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._task.done() or self._websocket.closed:
            answer.set_exception(ConnectionLost())
            return answer
        number = next(self._numbers)
        self._asked[number] = answer
        sending = asyncio.ensure_future(
            self._websocket.send_str(f"42{number}{json_codec.encode([event, payload]).decode()}")
        )
        # If sending fails, the connection is closed, and `_listen` fails all open calls.
        sending.add_done_callback(lambda done: done.cancelled() or done.exception())
        return answer

    async def call(self, event: str, payload: Any) -> Any:
        """Send an event and return the data of its acknowledgement. Raises RefusedByServer, ConnectionLost."""
        return await self.start(event, payload)

    async def ended(self) -> None:
        """Return when the connection is closed, by either side. Raises what `hear` raised."""
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._websocket.close()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _listen(self) -> None:
        try:
            # Only silence reveals a frozen server or a broken network.
            async with asyncio.timeout(self._silence_s) as silence:
                async for frame in self._websocket:
                    if frame.type is not aiohttp.WSMsgType.TEXT:
                        break
                    await self._take(frame.data)
                    silence.reschedule(asyncio.get_running_loop().time() + self._silence_s)
        except TimeoutError:
            await self._websocket.close()
        finally:
            gone = ConnectionLost()
            for answer in (self._welcome, *self._asked.values()):
                if not answer.done():
                    answer.set_exception(gone)
                    answer.exception()  # silences asyncio if no caller awaits the answer

    async def _take(self, text: str) -> None:
        match text[:2]:
            case "42":
                event, payload = json_codec.decode(text[2:])
                self._hear(event, payload)
                if event == "connected" and not self._welcome.done():
                    self._welcome.set_result(None)
            case "43":
                number, _, rest = text[2:].partition("[")
                answer = self._asked.pop(int(number), None)
                if answer and not answer.done():
                    _settle(answer, json_codec.decode("[" + rest)[0])
            case "2":
                await self._websocket.send_str("3")
            case "44" if not self._welcome.done():
                self._welcome.set_exception(RefusedByServer(json_codec.decode(text[2:])["data"]))
            case "41" | "1":
                await self._websocket.close()
            case _ if text[:1] == "0":
                handshake = json_codec.decode(text[1:])
                self._silence_s = (handshake["pingInterval"] + handshake["pingTimeout"]) / 1000


def _settle(answer: asyncio.Future[Any], ack: Any) -> None:
    if ack["ok"]:
        answer.set_result(ack["data"])
    else:
        answer.set_exception(RefusedByServer(ack["error"]))
