"""A user's connection that comes back whenever it ends, as a phone's does."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from .failures import ConnectionLost, RefusedByServer, Unreachable
from .socket import Hear, Socket

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
REFRESH_S = 30 * 60.0
"""A token that lives longer than this is renewed in time, as long as the clocks agree roughly."""
LATER = ("RATE_LIMITED", "UNAVAILABLE", "INTERNAL", "TOKEN_EXPIRED")
"""After these it is tried again; any other refusal is one for good."""

Came = Callable[[Socket], Awaitable[None]]
"""Called when there is a connection, before anything else is sent on it. It may raise ConnectionLost."""


class ReconnectingSocket:
    """`run` holds the connection, while others `call`. Events reach `hear` in the order of each socket.

    `urls`: one balancer, or the nodes themselves, of which each is tried in turn.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        urls: Sequence[str],
        token: Callable[[], str],
        *,
        hear: Hear,
        came: Came,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._http = http
        self._urls = itertools.cycle(urls)
        self._count = len(urls)
        self._token = token
        self._hear = hear
        self._came = came
        self._lost = lost
        self._been_up = False
        self._socket: asyncio.Future[Socket] = asyncio.get_running_loop().create_future()

    @property
    def up(self) -> bool:
        return self._socket.done()

    async def run(self) -> None:
        """Be connected until cancelled.

        Raises Unreachable when nobody answers at the very beginning, at none of the URLs; later that is waited
        out. It may be run again after it was cancelled.
        Raises RefusedByServer when the server does not want this user.
        """
        failed = 0
        while True:
            try:
                socket = await Socket.open(self._http, next(self._urls), self._token(), self._hear)
            except Unreachable:
                failed += 1
                if not self._been_up and failed >= self._count:
                    raise
            except RefusedByServer as refused:
                if refused.code not in LATER:
                    raise
                failed += 1
                await asyncio.sleep(refused.retry_after or 0)
            else:
                failed, self._been_up = 0, True
                await self._hold(socket)
            await _pause(failed)

    async def call(self, event: str, payload: Any) -> Any:
        """The data of the acknowledgement, on this connection or a later one. Raises RefusedByServer.

        What was under way when a connection ended is sent again: only what may be done twice, as a
        message with its clientMessageId may.
        """
        while True:
            socket = await asyncio.shield(self._socket)
            try:
                return await socket.call(event, payload)
            except ConnectionLost:
                await socket.ended()
                # Until `run` has noticed, the future is that of the socket that has ended.
                await asyncio.sleep(0)

    async def _hold(self, socket: Socket) -> None:
        try:
            await self._came(socket)
            self._socket.set_result(socket)
            while not await _ended(socket, within=REFRESH_S):
                await socket.call("auth:refresh", {"token": self._token()})
        except ConnectionLost:
            pass
        finally:
            if self._socket.done():
                self._socket = asyncio.get_running_loop().create_future()
            await socket.close()
        self._lost()


async def _ended(socket: Socket, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await socket.ended()
    except TimeoutError:
        return False
    return True


async def _pause(failed: int) -> None:
    # By chance, so that not all who lost the same node come back at the same moment.
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failed, 10))
    await asyncio.sleep(longest * random.uniform(0.5, 1))
