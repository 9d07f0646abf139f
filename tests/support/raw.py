"""A client without a Socket.IO library: frames are sent as written, nothing waits, and received frames are kept
in order."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from .patience import PATIENCE_S
from .people import Person, Refused

RESTARTS = 1012
"""The close code with which a stopping node sends its clients elsewhere."""
LONG = "🎉" * 10_000
"""40 KB: the longest text allowed."""
Answer = dict[str, Any] | None
"""An acknowledgement; None if the connection ended without one."""


class Wire:
    """A WebSocket to the server, well-behaved or not."""

    def __init__(
        self, person: Person, websocket: aiohttp.ClientWebSocketResponse, *, pongs: bool
    ) -> None:
        self.person = person
        self.websocket = websocket
        self.pongs = pongs
        self.frames: list[str] = []
        """Received frames, except events, acknowledgements and pings."""
        self.heard: list[tuple[str, Any]] = []
        self.pings = 0
        self.slowest = 0.0
        """The longest time until an acknowledgement, in seconds."""
        self.gone = asyncio.Event()
        self.answered: dict[int, Any] = {}
        """Acknowledgements of events that were not sent with `ask`, by number."""
        self._ids = itertools.count(1000)
        self._asked: dict[int, tuple[float, asyncio.Future[Answer]]] = {}
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, person: Person, *, pongs: bool = True, **options: Any) -> Wire:
        """Opens only the transport: the client is not authenticated yet."""
        url = f"{person.server.sockets}/socket.io/?EIO=4&transport=websocket"
        websocket = await person.session.ws_connect(url, max_msg_size=0, **options)
        return cls(person, websocket, pongs=pongs)

    @classmethod
    async def connect(cls, person: Person, **options: Any) -> Wire:
        """Returns a client that is in its rooms. Raises Refused and ConnectionError."""
        wire = await cls.open(person, **options)
        await wire.introduce()
        await wire.until(lambda: "connected" in wire.names or wire.refusals or wire.gone.is_set())
        if wire.refusals:
            await wire.close()
            raise Refused(wire.refusals[0]["data"])
        if "connected" not in wire.names:
            raise ConnectionResetError
        return wire

    @property
    def refusals(self) -> list[Any]:
        """The answers by which the server refused the connection."""
        return [json.loads(frame[2:]) for frame in self.frames if frame.startswith("44")]

    async def introduce(self) -> None:
        await self.write("40" + json.dumps({"token": self.person.token}))

    async def write(self, text: str) -> None:
        await self.websocket.send_str(text)

    async def ask(self, event: str, payload: Any = None) -> asyncio.Future[Answer]:
        """Sends an event, and returns a future of its acknowledgement."""
        number = next(self._ids)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = (time.monotonic(), answer)
        try:
            await self.write(f"42{number}" + json.dumps([event, payload or {}], ensure_ascii=False))
        except ConnectionError:
            # It may have been sent all the same. As long as frames arrive, its acknowledgement can arrive, too.
            if self.gone.is_set():
                answer.set_result(None)
        return answer

    async def do(self, event: str, payload: Any = None) -> Any:
        answer = await (await self.ask(event, payload))
        assert answer is not None, "the connection ended"
        assert answer["ok"], answer
        return answer["data"]

    async def say(
        self, talk: dict[str, Any], text: str, once: str | None = None
    ) -> asyncio.Future[Answer]:
        payload = {"conversationId": talk["id"], "content": text}
        return await self.ask("message:send", payload | ({"clientMessageId": once} if once else {}))

    async def until(self, true: Callable[[], object], within: float = PATIENCE_S) -> None:
        """Waits until `true()` holds. It is checked after each received frame."""
        async with asyncio.timeout(within):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def ended(self, within: float = PATIENCE_S) -> int | None:
        """Waits for the end, and returns the code with which the server closed; None if there was none."""
        async with asyncio.timeout(within):
            await self.gone.wait()
        return self.websocket.close_code

    async def caught_up(self) -> None:
        """Waits until everything sent to this client so far has arrived."""
        if self.person.nodes is not None:
            await self.person.nodes.settled()
        await self.do("ping")

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.heard]

    def told(self, *events: str) -> list[Any]:
        """Returns the payloads of these events, in the order of arrival."""
        return [payload for name, payload in self.heard if name in events]

    async def close(self) -> None:
        await self.websocket.close()
        await self.gone.wait()

    async def _listen(self) -> None:
        async for frame in self.websocket:
            if frame.type is aiohttp.WSMsgType.TEXT:
                await self._take(frame.data)
                self._news.set()
        for _, answer in self._asked.values():
            if not answer.done():
                answer.set_result(None)
        self.gone.set()
        self._news.set()

    async def _take(self, text: str) -> None:
        if text.startswith("42"):
            name, payload = json.loads(text[2:])
            self.heard.append((name, payload))
        elif text.startswith("43"):
            number, _, rest = text[2:].partition("[")
            if int(number) not in self._asked:
                self.answered[int(number)] = json.loads("[" + rest)[0]
                return
            since, answer = self._asked.pop(int(number))
            self.slowest = max(self.slowest, time.monotonic() - since)
            if not answer.done():  # the caller may have given up
                answer.set_result(json.loads("[" + rest)[0])
        elif text == "2":
            self.pings += 1
            if self.pongs:
                await self.write("3")
        else:
            self.frames.append(text)


async def when(true: Callable[[], object], within: float = PATIENCE_S) -> None:
    """Waits until `true()` holds, by polling, because no event announces it."""
    async with asyncio.timeout(within):
        while True:
            if true():
                return
            await asyncio.sleep(0.002)


def rising(numbers: list[int]) -> bool:
    """Returns True if each number is larger than the one before it."""
    return all(former < later for former, later in itertools.pairwise(numbers))


async def history(person: Person, talk: dict[str, Any]) -> list[Any]:
    """Returns all messages of a conversation, oldest first, read page by page."""
    messages: list[Any] = []
    while True:
        after = messages[-1]["seq"] if messages else 0
        page = await person.ask(
            "GET", f"/conversations/{talk['id']}/messages?limit=200&after={after}"
        )
        messages += page["items"]
        if not page["hasMore"]:
            return messages
