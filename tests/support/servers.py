"""Real servers for the tests: one MongoDB for a whole run, and as many chat servers as a test needs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pymongo

from chatserver.mongo.embedded import find_mongod

from .forks import Fork
from .patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
JWT_SECRET = "a-secret-for-the-tests-of-32-bytes-or-more"
INTERNAL_SECRET = "the-internal-secret-of-the-tests-32-bytes"
WEBHOOK_SECRET = "the-webhook-secret-of-the-tests-32-bytes"


READY_S = 20.0
"""Time limit for a server to become ready, not counting time in which it had no CPU."""
KEPT = 64
_kept: deque[socket.socket] = deque()


def free_port() -> int:
    """Returns a free port below the kernel's range for outgoing connections, so that it stays free.

    The port is reserved until KEPT other ports have been requested. Meanwhile neither another server that
    starts at the same moment, nor another run of the tests, gets it.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            continue
        # Set after the bind: another call of this function is refused, but a server, which sets it too, can bind.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _kept.append(listener)
        if len(_kept) > KEPT:
            _kept.popleft().close()
        return port


def starved_s(pid: int) -> float:
    """Returns the time in which a process was ready to run but had no CPU: most of it, on a busy machine."""
    try:
        _, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has ended, or the kernel does not record it
    return int(waited) / 1e9


class MongoServer:
    """A mongod for the tests, a replica set of one node."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet=tests"

    def start(self) -> None:
        self.launch()
        try:
            self._initiate()
        except BaseException:  # interrupted, too: nobody else would end the process
            self.kill()
            raise

    def launch(self) -> None:
        """Starts the process only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [
                str(find_mongod()),
                *("--dbpath", str(self.folder), "--port", str(self.port)),
                *("--bind_ip", "127.0.0.1", "--replSet", "tests", "--wiredTigerCacheSizeGB", "0.5"),
                *("--setParameter", "diagnosticDataCollectionEnabled=false", "--quiet"),
                *("--setParameter", "transactionLifetimeLimitSeconds=2"),
                *("--setParameter", "enableTestCommands=1"),
                # Otherwise the files of a dropped database stay for five minutes.
                *("--setParameter", "minSnapshotHistoryWindowInSeconds=5"),
                # MongoDB allocates 300 MB for its journal otherwise, before it answers.
                *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
                *("--logpath", str(self.folder / "mongod.log")),
            ],
            stdout=subprocess.DEVNULL,
        )

    def _initiate(self) -> None:
        end = time.monotonic() + PATIENCE_S
        # The driver tries only twice a second.
        while not self._listens():
            assert self.process.poll() is None, (self.folder / "mongod.log").read_text()[-4000:]
            assert time.monotonic() < end, "mongod does not listen"
            time.sleep(0.02)
        with pymongo.MongoClient(
            f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        ) as client:
            with contextlib.suppress(
                pymongo.errors.OperationFailure
            ):  # initiated by an earlier start
                members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
                client.admin.command("replSetInitiate", {"_id": "tests", "members": members})
            while not client.admin.command("hello").get("isWritablePrimary"):
                assert time.monotonic() < end, "mongod does not become primary"
                time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @contextmanager
    def failing(self, *commands: str, times: int = 0, **how: Any) -> Iterator[None]:
        """All commands of these names, or the next `times`, fail in this way (see MongoDB's fail point
        `failCommand`)."""
        with pymongo.MongoClient(self.url) as client:
            point = {"configureFailPoint": "failCommand"}
            data = {"failCommands": list(commands), **how}
            mode = {"times": times} if times else "alwaysOn"
            client.admin.command({**point, "mode": mode, "data": data})
            try:
                yield
            finally:
                client.admin.command({**point, "mode": "off"})

    def count(self, database: str, collection: str) -> int:
        with pymongo.MongoClient(self.url) as client:
            return client[database][collection].count_documents({})

    def set(self, **parameters: Any) -> None:
        with pymongo.MongoClient(self.url) as client:
            client.admin.command("setParameter", 1, **parameters)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


_started: dict[str, set[ChatServer]] = {}
"""The servers of each database of the MongoDB that all tests share."""


def drop_databases(mongo: pymongo.MongoClient[Any]) -> None:
    """Drops the databases whose servers have all ended. Each is 54 files, and hundreds of them slow MongoDB down."""
    for database, servers in list(_started.items()):
        if all(server.process.returncode is not None for server in servers):
            mongo.drop_database(database)
            del _started[database]


class ChatServer:
    """A chatserver process with its log."""

    module = "chatserver"
    command = "serve"
    options: Sequence[str] = ()
    python: Sequence[str] = (sys.executable,)
    cwd = ROOT
    starts_group = False
    """True if a signal can be sent to a process group of its own, as a terminal does."""
    may_log_errors = False
    """True in a test that causes errors which the server does not expect."""

    def __init__(self, mongo_url: str, database: str, log: Path, **settings: str) -> None:
        self.port = int(settings.get("PORT") or free_port())
        self.ws_port = int(settings.get("WS_PORT") or free_port())
        self.log_path = log
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CHAT")},
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WS_PORT": str(self.ws_port),
            "MONGO_URL": mongo_url,
            "MONGO_DATABASE": database,
            "AUTH_JWT_SECRET": JWT_SECRET,
            "AUTH_LEEWAY_S": "0",
            "INTERNAL_API_SECRET": INTERNAL_SECRET,
            "WEBHOOK_SECRET": WEBHOOK_SECRET,
            "RATE_LIMITS": "off",
            "PRESENCE_GRACE_S": "0.5",
            "TYPING_TIMEOUT_S": "1",
            "DRAIN_S": "0",
            **settings,
        }
        if mongo_url == os.environ.get("TESTS_MONGO_URL"):
            # The database that all tests share answers in the end, however slow the machine is.
            self.env.setdefault("REQUEST_TIMEOUT_S", "30")
        self.process: asyncio.subprocess.Process | Fork
        self._terminated = False

    @property
    def _forks(self) -> bool:
        usual = ChatServer.python, ChatServer.cwd, ChatServer.starts_group
        return (self.python, self.cwd, self.starts_group) == usual

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sockets(self) -> str:
        return f"http://127.0.0.1:{self.ws_port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    async def launch(self) -> None:
        """Starts the process, without waiting until it is ready."""
        self._terminated = False
        await self._launch([self.command, *self.options])
        if self.env["MONGO_URL"] == os.environ.get("TESTS_MONGO_URL"):
            _started.setdefault(self.env["MONGO_DATABASE"], set()).add(self)

    async def _launch(self, words: Sequence[str]) -> None:
        if self._forks:
            self.process = Fork(self.module, words, self.env, self.log_path)
            return
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(*self.python, "-m", self.module, *words),
                cwd=self.cwd,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=self.starts_group,
            )

    async def start(self) -> None:
        await self.launch()
        async with aiohttp.ClientSession() as session:
            began, answered = time.monotonic(), "nothing"
            while True:
                assert self.process.returncode is None, self._story("ended")
                passed = time.monotonic() - began - starved_s(self.process.pid)
                assert passed < READY_S, self._story(f"/ready says {answered}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(self.rest + "/ready") as answer:
                        if answer.status == 200:
                            return
                        answered = await answer.text()
                await asyncio.sleep(0.02)

    def _story(self, what: str) -> str:
        code, starved = self.process.returncode, starved_s(self.process.pid)
        return (
            f"no {self.command} at {self.rest}: {what}; exit code {code}, {starved:.1f} s without a CPU,"
            f" log:\n{self.log}"
        )

    def signal(self, number: int) -> None:
        # A second one would end the server at once.
        self._terminated = self._terminated or number in (signal.SIGTERM, signal.SIGINT)
        self.process.send_signal(number)

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    def terminate(self) -> None:
        """Sends SIGTERM, once."""
        if self.process.returncode is None and not self._terminated:
            self._terminated = True
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.terminate()

    async def stop(self) -> int:
        self.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"the server did not stop: {self.log[-2000:]}") from None


class RelayServer(ChatServer):
    """`chatserver relay`, which delivers webhooks and has one port."""

    command = "relay"


@asynccontextmanager
async def chat_server(
    mongo_url: str, database: str, log: Path, **settings: str
) -> AsyncIterator[ChatServer]:
    """Runs a server. At the end it must stop cleanly, without tracebacks in its log."""
    server = ChatServer(mongo_url, database, log, **settings)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
    assert server.may_log_errors or "Traceback" not in server.log, server.log[-4000:]


@asynccontextmanager
async def relay_server(
    server: ChatServer, log: Path, **settings: str
) -> AsyncIterator[RelayServer]:
    """Runs a relay with a server's database and webhooks. It must stop cleanly, unless it was killed."""
    theirs = {key: value for key, value in server.env.items() if key.startswith("WEBHOOK")}
    relay = RelayServer(
        server.env["MONGO_URL"], server.env["MONGO_DATABASE"], log, **theirs, **settings
    )
    try:
        await relay.start()
        yield relay
    finally:
        await relay.stop()
    assert "Traceback" not in relay.log, relay.log[-4000:]
