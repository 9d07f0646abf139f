"""Long polling: packets that wait for a poll, the poll that waits for packets, its response, and request bodies."""

from __future__ import annotations

import asyncio

from aiohttp import web
from engineio import packet as engine
from engineio.exceptions import ContentTooLongError

from .packet import Malformed
from .tcp import ABORT_S, KERNEL_BYTES, TCP_NOTSENT_LOWAT, TCP_USER_TIMEOUT, set_tcp

BODY_S = 10.0
SEPARATOR = b"\x1e"

NOOP = engine.Packet(engine.NOOP)


class Polling:
    __slots__ = (
        "_answer",
        "_leaving",
        "_packets",
        "_poll",
        "_taken",
        "excused",
        "posting",
        "unsent",
    )

    def __init__(self) -> None:
        self.unsent = 0
        """Bytes of messages that wait, or are in a response that the client has not read."""
        self.excused = 0
        """Unsent bytes that do not count for the limit: while the client reads an answer that it requested."""
        self.posting = False
        """True while a request body is being received."""
        self._packets: list[engine.Packet] = []
        self._poll: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None
        self._answer: asyncio.Transport | None = None
        """The connection on which a response is being sent."""
        self._leaving = 0
        """Bytes of messages in that response."""

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
        self.unsent = self._leaving
        self.end()
        return packets

    def leave(self, request: web.Request, patience_s: float) -> list[engine.Packet]:
        """Take all packets for a response, which is being sent until `arrived` is called."""
        self._answer = request.transport
        self._leaving = self.unsent
        # As for a WebSocket, limit what the kernel buffers, and for how long.
        set_tcp(self._answer, TCP_NOTSENT_LOWAT, KERNEL_BYTES)
        set_tcp(self._answer, TCP_USER_TIMEOUT, int(patience_s * 1000))
        return self.take()

    def arrived(self, answer: asyncio.Transport | None) -> None:
        """The client has read most of the response, or is disconnected."""
        if self._answer is not answer:
            return  # this was a refusal, while another response is being sent
        self._answer = None
        self.unsent -= self._leaving
        self._leaving = 0
        self.excused = min(self.excused, self.unsent)
        self.end()

    async def answered(self) -> None:
        """Return when no response is being sent. There is one at a time, and so one buffer."""
        while self._answer is not None:
            await self.taken()

    def hang_up(self) -> None:
        """The session has ended: abort the response that is being sent, unless the client reads it soon."""
        if self._answer is not None:
            asyncio.get_running_loop().call_later(ABORT_S, self._abort, self._answer)

    def _abort(self, answer: asyncio.Transport) -> None:
        if self._answer is answer:
            answer.abort()

    async def taken(self) -> None:
        """Return when the waiting packets are taken, or never will be."""
        if self._taken is None:
            self._taken = asyncio.get_running_loop().create_future()
        # Several tasks may wait, and one of them may be cancelled.
        await asyncio.shield(self._taken)

    def end(self) -> None:
        """Wake the tasks that wait in `taken`."""
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)

    def release(self) -> None:
        """End the poll that waits, whether there are packets or not."""
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    async def wait(self, request: web.Request) -> None:
        """Return when released. Raises Malformed if the client disconnects, because packets in the response
        would be lost."""
        poll = self._poll = asyncio.get_running_loop().create_future()
        cancel = request._cancel

        def lost(error: BaseException) -> None:
            cancel(error)
            if not poll.done():
                poll.set_exception(Malformed())

        # aiohttp calls nothing else in the turn of the event loop in which the connection is lost.
        request._cancel = lost  # type: ignore[method-assign,assignment]
        await poll

    def over(self) -> None:
        """The poll does not wait any more."""
        self._poll = None


async def read(request: web.Request, limit: int) -> list[bytes]:
    """Returns the packets of a body. Raises Malformed, or ContentTooLongError for more than `limit` bytes."""
    if (request.content_length or 0) > limit:
        raise ContentTooLongError()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise ContentTooLongError()
        body.decode()  # only checks that it is UTF-8
    except (UnicodeDecodeError, OSError, TimeoutError, web.RequestPayloadError):
        raise Malformed() from None
    return bytes(body).split(SEPARATOR)
