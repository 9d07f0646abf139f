"""Long polling: what waits for the next poll, the poll that waits for it, and bodies that come in."""

from __future__ import annotations

import asyncio

from aiohttp import web
from engineio import packet as engine
from engineio.exceptions import ContentTooLongError

from .packet import Malformed

BODY_S = 10.0
SEPARATOR = b"\x1e"

NOOP = engine.Packet(engine.NOOP)


class Polling:
    __slots__ = ("_packets", "_poll", "_taken", "posting", "unsent")

    def __init__(self) -> None:
        self.unsent = 0
        """Bytes of messages that wait."""
        self.posting = False
        """Whether a body is under way."""
        self._packets: list[engine.Packet] = []
        self._poll: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None

    @property
    def is_waited_for(self) -> bool:
        return self._poll is not None

    @property
    def has_something(self) -> bool:
        return bool(self._packets)

    def put(self, pkt: engine.Packet, size: int = 0) -> None:
        self.unsent += size
        self._packets.append(pkt)
        self.release()

    def take(self) -> list[engine.Packet]:
        packets, self._packets = self._packets, []
        self.unsent = 0
        self.end()
        return packets

    async def taken(self) -> None:
        """Return when what waits has been taken, or never will be."""
        if self._taken is None:
            self._taken = asyncio.get_running_loop().create_future()
        await self._taken

    def end(self) -> None:
        """Nothing is waited for any more."""
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)

    def release(self) -> None:
        """End the poll that is under way, whether there is something or not."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    async def wait(self, request: web.Request) -> None:
        """Return when released. Raises Malformed when the client is gone: what would be answered to
        it then would be lost."""
        poll = self._poll = asyncio.get_running_loop().create_future()
        cancel = request._cancel

        def lost(error: BaseException) -> None:
            cancel(error)
            if not poll.done():
                poll.set_exception(Malformed())

        # The one thing that aiohttp calls, in the turn in which the connection is lost.
        request._cancel = lost  # type: ignore[method-assign,assignment]
        await poll

    def over(self) -> None:
        """The poll that waited has been answered."""
        self._poll = None


async def read(request: web.Request, most: int) -> list[bytes]:
    """The packets of a body. Raises Malformed, and ContentTooLongError for more than `most` bytes."""
    if (request.content_length or 0) > most:
        raise ContentTooLongError()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise ContentTooLongError()
        body.decode()  # for the check alone
    except (UnicodeDecodeError, OSError, TimeoutError, web.RequestPayloadError):
        raise Malformed() from None
    return bytes(body).split(SEPARATOR)
