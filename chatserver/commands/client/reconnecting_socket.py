"""A user's connection that reconnects whenever it is lost, as a phone does."""

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
"""Seconds between token refreshes. A token that is valid for longer never expires, if the clocks roughly agree."""
LATER = ("RATE_LIMITED", "UNAVAILABLE", "INTERNAL", "TOKEN_EXPIRED")
"""Refusals of a connection after which it is tried again. Any other refusal is final."""

Came = Callable[[Socket], Awaitable[None]]
"""Called with each new connection, before anything else is sent on it. May raise ConnectionLost."""


class ReconnectingSocket:
    """`run` keeps the connection while other tasks `call`. `hear` receives the events of each socket in order.

    `urls`: a load balancer, or the nodes themselves, which are tried in turn.
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
        """Stay connected until cancelled. It may be run again afterwards.

        Raises Unreachable if no URL answers before the first connection; later it keeps trying. Raises
        RefusedByServer if the server refuses this user for good.
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
        """The data of the acknowledgement, from this connection or a later one. Raises RefusedByServer.

        If the connection is lost before the acknowledgement, the event is sent again. Use it only for
        events that are safe to repeat, such as a message with a clientMessageId.
        """
        while True:
            socket = await asyncio.shield(self._socket)
            try:
                return await socket.call(event, payload)
            except ConnectionLost:
                await socket.ended()
                # Let `run` replace the future, which still holds the closed socket.
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
    # Random, so that the clients of a lost node do not all reconnect at the same moment.
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failed, 10))
    await asyncio.sleep(longest * random.uniform(0.5, 1))
