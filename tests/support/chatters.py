"""People with this project's own JavaScript client, each in a Node process."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio

from .patience import PATIENCE_S
from .people import Person
from .servers import ROOT

CLIENT = ROOT / "clients" / "js"
DRIVER = ROOT / "tests" / "js" / "chatter.mjs"
END_S = 5.0


def build() -> None:
    """Compiles the client if its sources have changed. Several test processes may call this at the same time."""
    with (CLIENT / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = CLIENT / "dist" / "index.js"
        sources = [CLIENT / "tsconfig.json", *(CLIENT / "src").iterdir()]
        newest = max(source.stat().st_mtime for source in sources)
        if not built.exists() or built.stat().st_mtime < newest:
            subprocess.run(["node_modules/.bin/tsc"], cwd=CLIENT, check=True)


class No(Exception):
    """The client reported an error. `code` is the error's code."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(error)
        self.code = error["code"]


class Chatter:
    """A person with the client. `tokens` returns each token that the client requests."""

    def __init__(self, person: Person, tokens: Callable[[], str]) -> None:
        self.person = person
        self.tokens = tokens
        self.wishes = 0
        self.states: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.process: asyncio.subprocess.Process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._reader: asyncio.Task[None]

    async def start(self, options: dict[str, Any]) -> None:
        await asyncio.to_thread(build)
        self.process = await asyncio.create_subprocess_exec(
            *("node", str(DRIVER), json.dumps(options)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            match said:
                case {"wish": "token"}:
                    self.wishes += 1
                    self._say(token=self.tokens())
                case {"state": state}:
                    self.states.append(state)
                case {"told": told}:
                    self.told.append(told)
                case {"answer": number, "error": error}:
                    self._answers.pop(number).set_exception(No(error))
                case {"answer": number, "data": data}:
                    self._answers.pop(number).set_result(data)

    def _say(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    def begin(self, what: str, of: Any = None, with_: Any = None) -> asyncio.Future[Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._say(id=number, do=what, of=of and of["id"], **{"with": with_})
        return answer

    async def do(self, what: str, of: Any = None, *arguments: Any) -> Any:
        """Calls a method of the client, or of a conversation. Raises No."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.begin(what, of, list(arguments))

    async def look(self, at: Any = None) -> Any:
        return await self.do("look", at)

    async def sees(
        self, at: Any, such: Callable[[Any], bool], *, within: float = PATIENCE_S
    ) -> Any:
        """Waits until the client's view satisfies `such`, and returns the view."""
        seen = None
        try:
            async with asyncio.timeout(within):
                while True:
                    seen = await self.look(at)
                    if such(seen):
                        return seen
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{self.person.id} sees {seen}, was told {self.told}") from None

    async def says(self, conversation: Any, message: Any) -> str:
        """Sends a message. Returns its clientMessageId without waiting for the acknowledgement."""
        return await self.begin("send", conversation, {"message": message})

    async def close(self) -> None:
        """Closes the client. Its process must then exit by itself, because nothing of it may keep running."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            assert await asyncio.wait_for(self.process.wait(), END_S) == 0
        finally:
            if self.process.returncode is None:
                self.process.kill()
            await self._reader


Opener = Callable[..., Awaitable[Chatter]]


@pytest_asyncio.fixture
async def chatter() -> AsyncIterator[Opener]:
    """Returns a person's connected client: `await chatter(alice)`. `url` can lead through a proxy."""
    made: list[Chatter] = []

    async def open_one(
        person: Person, tokens: Callable[[], str] | None = None, **options: Any
    ) -> Chatter:
        chatter = Chatter(person, tokens or (lambda: person.token))
        made.append(chatter)
        api = f"{person.server.rest}/api"
        await chatter.start({"url": person.server.sockets, "api": api, **options})
        await chatter.do("connect")
        return chatter

    yield open_one
    await asyncio.gather(*[chatter.close() for chatter in made])


async def opened(chatter: Chatter, conversation: Any) -> Chatter:
    await chatter.do("open", conversation)
    return chatter


def texts(seen: Any) -> list[str]:
    return [message["content"] for message in seen["messages"]]


def seqs(seen: Any) -> list[int | None]:
    return [message["seq"] for message in seen["messages"]]
