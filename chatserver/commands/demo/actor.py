"""One simulated person, who goes online and offline, types, writes and reads."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ...development import Person
from ..client.api import Api, segment
from ..client.failures import RefusedByServer, Unreachable
from ..client.reconnecting_socket import ReconnectingSocket
from ..client.socket import Socket
from .pace import Pace

CHARS_PER_S = 14.0
TYPING_AGAIN_S = 3.0
"""Seconds between `typing:start` events. The server ends an indicator after 6 s."""
LATER = ("RATE_LIMITED", "UNAVAILABLE")
OUT = ("NOT_FOUND", "FORBIDDEN")
"""Expected refusals: users of the demo may remove its people or delete their messages."""


class Actor:
    def __init__(
        self,
        role: Person,
        pace: Pace,
        api: Api,
        connect: Callable[..., ReconnectingSocket],
        conversations: Sequence[str],
        *,
        came: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        """`came`, `lost`: called for each connection made or lost, but not when the actor disconnects."""
        self.role = role
        self._pace = pace
        self._api = api
        self._conversations = conversations
        self._came = asyncio.Event()
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._busy = 0
        self._tell_came, self._tell_lost = came, lost
        self._connection = connect(hear=_ignore, came=self._arrived, lost=self._lost)

    @property
    def online(self) -> bool:
        return self._came.is_set()

    async def live(self) -> None:
        """Go online and offline until cancelled. Raises Unreachable, RefusedByServer."""
        while True:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self._connection.run())
                await self._pace.between(40, 150)
                if self._pace.over.is_set():
                    await asyncio.Event().wait()
                await self._idle.wait()
                running.cancel()
            self._came.clear()
            await self._pace.between(10, 40, unless=self._wanted)

    @asynccontextmanager
    async def attentive(self) -> AsyncIterator[None]:
        """Keeps the actor online while the context is entered."""
        self._busy += 1
        self._wanted.set()
        self._idle.clear()
        try:
            await self._came.wait()
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._wanted.clear()
                self._idle.set()

    async def say(self, conversation: str, text: str, reply_to: str | None) -> Any:
        """Type and send a message. Returns it, or None if it was not allowed."""
        await self._type(conversation, len(text) / CHARS_PER_S / self.role.types)
        message = {"conversationId": conversation, "content": text}
        if reply_to:
            message["replyTo"] = reply_to
        return await self.do("message:send", {**message, "clientMessageId": secrets.token_hex(8)})

    async def do(self, event: str, payload: Any) -> Any:
        """The answer; None if the actor is no longer allowed to do it."""
        while True:
            try:
                return await self._connection.call(event, payload)
            except RefusedByServer as refused:
                if refused.code in OUT:
                    return None
                if refused.code not in LATER:
                    raise
                await asyncio.sleep(refused.retry_after or 1.0)

    async def read(self, conversation: str, message: str) -> None:
        """Mark the message as read after a moment, if the actor is online then."""
        await self._pace.between(0.6, 4)
        if self.online:
            await self.do(
                "conversation:read", {"conversationId": conversation, "upToMessageId": message}
            )

    def _lost(self) -> None:
        self._came.clear()
        self._tell_lost()

    async def _arrived(self, _: Socket) -> None:
        self._came.set()
        self._tell_came()
        for conversation in self._conversations:
            try:
                path = f"/conversations/{segment(conversation)}/read"
                await self._api.ask("PUT", path, {}, user=self.role.id)
            except Unreachable:
                return  # The server is stopping. The conversation is read at the next connection.
            except RefusedByServer as refused:
                if refused.code not in (*OUT, *LATER):
                    raise

    async def _type(self, conversation: str, seconds: float) -> None:
        payload = {"conversationId": conversation}
        left = min(max(seconds, 0.8), 8.0)
        while left > 0:
            await self.do("typing:start", payload)
            await self._pace.rest(min(left, TYPING_AGAIN_S))
            left -= TYPING_AGAIN_S
        await self.do("typing:stop", payload)


def _ignore(event: str, data: Any) -> None:
    pass
