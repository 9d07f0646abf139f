"""People with this project's own JavaScript client, in a Node process each; and a way to it through a
balancer that finds a node which lives."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from .people import Person
from .servers import ROOT, ChatServer

CLIENT = ROOT / "clients" / "js"
DRIVER = ROOT / "tests" / "js" / "chatter.mjs"
PATIENCE_S = 15.0


def build() -> None:
    """Compile the client unless that was done since its sources changed; for whoever is first."""
    with (CLIENT / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = CLIENT / "dist" / "index.js"
        sources = [CLIENT / "tsconfig.json", *(CLIENT / "src").iterdir()]
        newest = max(one.stat().st_mtime for one in sources)
        if not built.exists() or built.stat().st_mtime < newest:
            subprocess.run(["node_modules/.bin/tsc"], cwd=CLIENT, check=True)


class No(Exception):
    """The client said no; `code` is the error's."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(error)
        self.code = error["code"]


class Chatter:
    """Somebody with the client. `tokens` is asked for each token that the client wants."""

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
        """Call a method of the client, or of a conversation. Raises No."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.begin(what, of, list(arguments))

    async def look(self, at: Any = None) -> Any:
        return await self.do("look", at)

    async def sees(
        self, at: Any, such: Callable[[Any], bool], *, within: float = PATIENCE_S
    ) -> Any:
        """What it shows, once it is such."""
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
        """Send; returns the clientMessageId at once."""
        return await self.begin("send", conversation, {"message": message})

    async def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), 10)
        await self._reader


class Balancer:
    """Each connection goes to the next node that takes it; to people it is the server."""

    def __init__(self, servers: Sequence[ChatServer]) -> None:
        self._servers = itertools.cycle(servers)
        self._count = len(servers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def sockets(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """All connections at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._count):
            with contextlib.suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", next(self._servers).ws_port)
                self._writers |= {writer, there[1]}
                with contextlib.suppress(OSError):
                    await asyncio.gather(_carry(reader, there[1]), _carry(there[0], writer))
                self._writers -= {writer, there[1]}
                return
        writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def balancer(servers: Sequence[ChatServer]) -> AsyncIterator[Balancer]:
    one = Balancer(servers)
    listening = await asyncio.start_server(one.accept, "127.0.0.1", 0)
    one.port = listening.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        listening.close()
        one.cut()


def texts(seen: Any) -> list[str]:
    return [one["content"] for one in seen["messages"]]


def seqs(seen: Any) -> list[int | None]:
    return [one["seq"] for one in seen["messages"]]
