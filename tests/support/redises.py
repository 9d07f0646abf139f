"""Real Redis servers for the tests: one per worker, and as many as a test needs for faults."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from .patience import PATIENCE_S
from .servers import free_port

Keeping = Callable[..., Awaitable["RedisServer"]]


class RedisServer:
    """A redis-server without persistence. It restarts on the same port."""

    def __init__(self, folder: Path, **options: str) -> None:
        """`options`: as in redis.conf, with _ instead of -."""
        self.folder = folder
        self.port = free_port()
        self.options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "save": "",
            "dir": str(folder),
            "logfile": str(folder / "redis.log"),
            **options,
        }
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            "redis-server", *self.words(), stdout=asyncio.subprocess.DEVNULL
        )
        end = time.monotonic() + PATIENCE_S
        while not await self._answers():
            assert self.process.returncode is None, (self.folder / "redis.log").read_text()
            assert time.monotonic() < end, "redis-server does not answer"
            await asyncio.sleep(0.02)

    def words(self) -> list[str]:
        return [
            word
            for name, value in self.options.items()
            for word in (f"--{name.replace('_', '-')}", *(value.split() or [""]))
        ]

    async def _answers(self) -> bool:
        # A request for a password is an answer, too.
        with contextlib.suppress(OSError):
            reader, writer = await self._connect()
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
            return answer.startswith((b"+PONG", b"-NOAUTH"))
        return False

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if "unixsocket" in self.options:
            return await asyncio.open_unix_connection(self.options["unixsocket"])
        return await asyncio.open_connection("127.0.0.1", self.port)

    @contextlib.asynccontextmanager
    async def client(self, **options: str) -> AsyncIterator[Redis]:
        """Another client of this Redis."""
        async with Redis(
            host="127.0.0.1", port=self.port, decode_responses=True, **options
        ) as redis:
            yield redis

    async def clients(self) -> dict[str, str]:
        """Returns the ids of the connected clients that have a name, by name."""
        async with self.client() as redis:
            return {
                client["name"]: client["id"]
                for client in await redis.client_list()
                if client["name"]
            }

    async def kill_client(self, what: str) -> None:
        """Closes the connections whose names end with `what`."""
        for name, number in (await self.clients()).items():
            if name.endswith(what):
                async with self.client() as redis:
                    await redis.client_kill_filter(_id=number)

    async def receivers(self, channel: str) -> int:
        async with self.client() as redis:
            return int((await redis.pubsub_numsub(channel))[0][1])

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            # A server that a test has frozen cannot stop properly.
            self.process.kill()
            await self.process.wait()


class Wire:
    """A connection to Redis that can be held (nothing passes, nothing is closed) or cut."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._to = port
        self._ends: list[asyncio.StreamWriter] = []
        self._passes = asyncio.Event()
        self._passes.set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def hold(self) -> None:
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()

    def cut(self) -> None:
        """Closes the current connections. Held data is lost."""
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._ends += [writer, there]
        await asyncio.gather(self._carry(reader, there), self._carry(there_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Either end may close, which closes the other.
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                await self._passes.wait()
                if writer.is_closing():
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class SentinelServer(RedisServer):
    """A single Sentinel that watches one master, and declares it dead soon."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder)
        self.master = master

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/the-chat"

    def words(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nlogfile {self.folder}/redis.log\n"
            f"sentinel monitor the-chat 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds the-chat 300\n"
            "sentinel failover-timeout the-chat 2000\n"
        )
        return [str(config), "--sentinel"]

    async def knows_a_replica(self) -> None:
        end = time.monotonic() + PATIENCE_S
        async with self.client() as asked:
            while not await asked.sentinel_slaves("the-chat"):
                assert time.monotonic() < end, "the Sentinel finds no replica"
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The Redis shared by the tests of a worker."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    await server.start()
    yield server.url
    await server.stop()


@pytest_asyncio.fixture
async def redis_of(tmp_path: Path) -> AsyncIterator[Keeping]:
    """Starts a Redis for one test: `await redis_of(requirepass="…")`."""
    servers: list[RedisServer] = []

    async def start(**options: str) -> RedisServer:
        servers.append(RedisServer(tmp_path / f"redis-{len(servers)}", **options))
        await servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


@pytest_asyncio.fixture
async def own_redis(redis_of: Keeping) -> RedisServer:
    """A Redis for tests with faults."""
    return await redis_of()


@pytest_asyncio.fixture
async def wire(own_redis: RedisServer) -> AsyncIterator[Wire]:
    """A connection to `own_redis`."""
    wire = Wire(own_redis.port)
    server = await asyncio.start_server(wire.accept, "127.0.0.1", wire.port)
    yield wire
    wire.release()
    wire.cut()
    server.close()
