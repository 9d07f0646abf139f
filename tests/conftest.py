"""One MongoDB for a run, one chat server per worker; tests that need another start their own."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import pymongo
import pytest
import pytest_asyncio

from tests.support.balanced import balanced  # noqa: F401  a fixture
from tests.support.batch_sink import outlet  # noqa: F401  a fixture
from tests.support.chatters import chatter  # noqa: F401  a fixture
from tests.support.database_proxy import two  # noqa: F401  a fixture
from tests.support.echo_clients import guests, starting, three  # noqa: F401  fixtures
from tests.support.endpoints_without_relay import crm, idle_outbox  # noqa: F401  fixtures
from tests.support.key_server import keys  # noqa: F401  a fixture
from tests.support.nodes_in_memory import simulation  # noqa: F401  a fixture
from tests.support.nodes_of_a_bus import node  # noqa: F401  a fixture
from tests.support.one_event import receiver, webhook  # noqa: F401  fixtures
from tests.support.patience import PATIENCE_S
from tests.support.people import People
from tests.support.people_on_nodes import Spread, spread
from tests.support.redises import RedisServer, own_redis, redis_of, redis_url, wire  # noqa: F401  fixtures
from tests.support.servers import (
    ChatServer,
    MongoServer,
    RelayServer,
    chat_server,
    drop_databases,
    relay_server,
)
from tests.support.visits import cast, chromium, visitor  # noqa: F401  fixtures

from .support import documented

Starter = Callable[..., Awaitable[ChatServer]]
RelayStarter = Callable[..., Awaitable[RelayServer]]


LONGEST = (
    "faults/test_table.py",
    "faults/test_nothing_left.py",
    "api/reference/test_fuzz.py",
    "chat/test_presence_nodes.py",
    "chat/test_presence_storms.py",
    "operations/test_memory.py",
    "faults/test_balancing.py",
    "outbox/test_webhooks_order.py",
    "faults/test_replica_set.py",
    "realtime/cluster/test_nodes.py",
    "operations/test_schema.py",
    "faults/test_database_outage.py",
    "faults/test_database_missing.py",
    "faults/test_late_requests.py",
    "faults/test_nothing_wedges.py",
)
"""The files with tests of 15 s to 80 s. They come first: with such a test at the end, all workers but one would be idle."""

_MONGO = pytest.StashKey[tuple[MongoServer, TemporaryDirectory[str]]]()


def pytest_configure(config: pytest.Config) -> None:
    """The process that starts the workers runs the database for all of them."""
    if "PYTEST_XDIST_WORKER" in os.environ or config.option.collectonly:
        return
    folder = TemporaryDirectory(prefix="chatserver-tests-")
    mongo = MongoServer(Path(folder.name))
    mongo.start()
    config.stash[_MONGO] = (mongo, folder)
    os.environ["TESTS_MONGO_URL"] = mongo.url


def pytest_unconfigure(config: pytest.Config) -> None:
    if _MONGO in config.stash:
        mongo, folder = config.stash[_MONGO]
        mongo.kill()
        folder.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    place = {folder / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def nothing_undocumented() -> Iterator[None]:
    """All that the clients of a test receive has the shape of the API's documents."""
    documented.faults.clear()
    yield
    assert not documented.faults, documented.faults[:3]


@pytest.fixture(scope="session")
def mongo_url() -> str:
    return os.environ["TESTS_MONGO_URL"]


@pytest.fixture(scope="session")
def shared_mongo(mongo_url: str) -> Iterator[pymongo.MongoClient[Any]]:
    with pymongo.MongoClient(mongo_url) as client:
        yield client


@pytest.fixture(autouse=True)
def no_old_databases(shared_mongo: pymongo.MongoClient[Any]) -> Iterator[None]:
    yield
    drop_databases(shared_mongo)


@pytest.fixture(scope="session")
def worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "alone")


@pytest_asyncio.fixture(scope="session")
async def server(
    mongo_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatServer]:
    """The server that tests share; each has its own people on it."""
    log = tmp_path_factory.mktemp("server") / "log"
    async with chat_server(mongo_url, f"shared-{worker}", log) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def nodes(
    mongo_url: str,
    redis_url: str,  # noqa: F811  the fixture
    worker: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Spread]:
    """The nodes that tests share; each has its own people on them."""
    folder = tmp_path_factory.mktemp("nodes")
    async with spread(mongo_url, redis_url, f"spread-{worker}", folder) as running:
        yield running


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """For requests by hand, none of which should take long."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as session:
        yield session


@pytest_asyncio.fixture
async def people(nodes: Spread) -> AsyncIterator[People]:
    # Without a limit: a failing example of a property test leaves its connections open.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        everyone = People(nodes.servers[0], session, nodes)
        yield everyone
        await everyone.go_home()


@pytest_asyncio.fixture
async def own_nodes(
    mongo_url: str,
    own_redis: RedisServer,  # noqa: F811  the fixture
    worker: str,
    tmp_path: Path,
) -> AsyncIterator[Spread]:
    """Nodes to ill-treat, with a Redis to ill-treat."""
    database = f"{worker}-own-{time.time_ns()}"
    async with spread(mongo_url, own_redis.url, database, tmp_path, LOG_LEVEL="warning") as running:
        yield running


@pytest_asyncio.fixture
async def everyone(own_nodes: Spread) -> AsyncIterator[People]:
    """As `people`, over the nodes that a file of tests has for itself."""
    async with aiohttp.ClientSession() as session:
        people = People(own_nodes.servers[0], session, own_nodes)
        yield people
        await people.go_home()


@pytest_asyncio.fixture
async def start(
    mongo_url: str, worker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Starter]:
    """Start a server of the test's own, with a database of its own: `await start(RATE_LIMITS="on")`."""
    running = []
    async with AsyncExitStack() as stack:

        async def start_one(mongo: str = mongo_url, **settings: str) -> ChatServer:
            database = f"{worker}-{abs(hash(request.node.nodeid)) % 10**12}"
            log = tmp_path / f"log-{len(json.dumps(settings))}"
            server = await stack.enter_async_context(chat_server(mongo, database, log, **settings))
            running.append(server)
            return server

        yield start_one
        # All at once, for each takes its time.
        for server in running:
            server.terminate()


@pytest_asyncio.fixture
async def relay(tmp_path: Path) -> AsyncIterator[RelayStarter]:
    """Start a relay for a server that was started with WEBHOOK_RELAY=off: `await relay(server)`."""
    async with AsyncExitStack() as stack:
        numbers = itertools.count(1)

        async def start_one(server: ChatServer, **settings: str) -> RelayServer:
            log = tmp_path / f"log-relay-{next(numbers)}"
            return await stack.enter_async_context(relay_server(server, log, **settings))

        yield start_one


@pytest_asyncio.fixture
async def own_mongo(tmp_path: Path) -> AsyncIterator[MongoServer]:
    """A MongoDB to ill-treat."""
    server = MongoServer(tmp_path / "mongo")
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.kill)


@pytest_asyncio.fixture
async def people_of() -> AsyncIterator[Callable[[ChatServer], People]]:
    """People on a server of the test's own."""
    async with aiohttp.ClientSession() as session:
        made: list[People] = []

        def of(server: ChatServer) -> People:
            made.append(People(server, session))
            return made[-1]

        yield of
        for person in made:
            await person.go_home()
