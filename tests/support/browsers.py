"""People with the official JavaScript client, each in a Node process."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import Callable
from typing import Any

from .people import Device, Person
from .servers import ROOT

DRIVER = ROOT / "tests" / "js" / "person.mjs"
TRANSPORTS = {
    "websocket": ["websocket"],
    "polling": ["polling"],
    "upgrade": ["polling", "websocket"],
}
CUT = ("transport close", "transport error")
"""Reasons after which the client reconnects. After "io server disconnect" it does not."""


class Lost(Exception):
    """The client gave up waiting for a response, because its connection had ended."""


class Browser(Device):
    """A device like any other. The client reports its own state as the events `client:open` and
    `client:upgrade` (the transport), `client:session` (its id), `client:connect` (the socket's id),
    `client:disconnect` (the reason) and `client:refused`."""

    client: Node

    def __init__(self, person: Person, client: Node) -> None:
        super().__init__(person, client)

    @classmethod
    async def open(cls, person: Person, *transports: str, with_token: str | None = None) -> Browser:
        """Starts a browser, which connects by itself. Without transports: polling, then an upgrade."""
        client = Node()
        browser = cls(person, client)
        await client.start(person.server.sockets, with_token or person.token, *transports)
        person.devices.append(browser)
        return browser

    async def do(self, event: str, payload: Any = None) -> Any:
        try:
            return await super().do(event, payload)
        except Lost:
            raise Lost(event) from None


class Node:
    """The methods of a client that a Device uses, performed by the driver process."""

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process
        self._hear: Callable[..., None]
        self._end: Callable[[], None]
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._reader: asyncio.Task[None]

    def on(self, event: str, handler: Callable[..., None]) -> None:
        if event == "*":
            self._hear = handler
        else:
            self._end = handler

    async def start(self, url: str, token: str, *transports: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *("node", str(DRIVER), url, token, *transports),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told = json.loads(line)
            if "heard" in told:
                self._hear(told["heard"], told["data"])
                continue
            answer = self._answers.pop(told["answer"])
            if "error" in told:
                answer.set_exception(Lost(told["error"]))
            else:
                answer.set_result(told["data"])
        self._end()

    def _order(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def emit(self, event: str, data: Any = None) -> None:
        self._order(emit=event, data=data)

    async def call(self, event: str, data: Any = None, *, timeout: float) -> Any:  # noqa: ASYNC109  named as in the Python client
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._order(emit=event, data=data, id=number)
        async with asyncio.timeout(timeout):
            return await answer

    def hold(self) -> None:
        """Suspends the process, like a laptop that is closed."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def disconnect(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        if self.process.returncode is None:
            self.go_on()
            self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), 10)
        await self._reader


async def everything_since_the_start(browser: Browser, talk: Any) -> list[Any]:
    """Returns all messages, by a sync from the start, like a client that was cut off before its first message."""
    found: list[Any] = []
    while True:
        asked = {"conversationId": talk["id"], "afterSeq": len(found), "limit": 200}
        page = await browser.do("messages:sync", asked)
        found += page["messages"]
        if not page["hasMore"]:
            return found
