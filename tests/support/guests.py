"""Socket.IO clients: python-socketio's own, and the JavaScript client as a process."""

from __future__ import annotations

import asyncio
from typing import Any

import socketio

from .patience import PATIENCE_S
from .servers import ROOT

GUEST = ROOT / "tests" / "js" / "guest.mjs"


class Guest(socketio.AsyncClient):
    """python-socketio's client, which stores the events that it receives."""

    def __init__(self) -> None:
        super().__init__(reconnection=False)
        self.heard: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self.on("*", lambda *event: self.heard.put_nowait(event))

    async def hears(self) -> tuple[Any, ...]:
        async with asyncio.timeout(PATIENCE_S):
            return await self.heard.get()
