"""The database carries the version of its schema. A newer server upgrades it, and an older one is refused."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest
import pytest_asyncio
from pymongo.database import Database

from chatserver import __version__
from chatserver.mongo.schema import FIRST, LEASE_S, STEPS, newest
from tests.conftest import Starter
from tests.support.command import Ran, run
from tests.support.next_version import NEWEST
from tests.support.patience import PATIENCE_S
from tests.support.people import People
from tests.support.processes import until
from tests.support.relays import NOBODY, lines
from tests.support.servers import ROOT, ChatServer, MongoServer, RelayServer

THIS = newest()
USERS = 3_000
SLOWLY = {"STEP_PER_USER_S": "0.0005"}
"""A step takes 1.5 s: six batches of 500 users."""
Launch = Callable[..., Any]


class NextVersion(ChatServer):
    module = "tests.support.next_version"


class Migrate(NextVersion):
    command = "migrate"


async def next_version(*words: str, **env: str) -> Ran:
    """Runs a command of the next version."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", NextVersion.module, *words),
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture
def database(mongo_url: str, worker: str) -> Iterator[Database[Any]]:
    """A database with users, from before the first schema with a number."""
    with pymongo.MongoClient(mongo_url) as client:
        database = client[f"schema-{worker}-{time.time_ns()}"]
        database.users.insert_many([{"_id": f"user-{n:05d}"} for n in range(USERS)])
        yield database
        client.drop_database(database.name)


@pytest_asyncio.fixture
async def launch(
    mongo_url: str, database: Database[Any], redis_url: str, tmp_path: Path
) -> AsyncIterator[Launch]:
    """Starts a server, by default of the next version, without waiting until it is ready."""
    async with AsyncExitStack() as stack:

        async def start(
            kind: type[ChatServer] = NextVersion, mongo: str = mongo_url, **settings: str
        ) -> ChatServer:
            log = tmp_path / f"log-{time.time_ns()}"
            settings = {"REDIS_URL": redis_url, **settings}
            server = kind(mongo, database.name, log, **settings)
            await server.launch()
            stack.push_async_callback(server.stop)
            return server

        yield start


def state(database: Database[Any]) -> Any:
    return database.schema.find_one({"_id": "schema"}) or {}


def counts(database: Database[Any]) -> set[int | None]:
    return {user.get("counted") for user in database.users.find()}


async def ready(session: aiohttp.ClientSession, server: ChatServer) -> tuple[int, Any]:
    """Returns the status and the answer of /ready; 0 while the port is closed."""
    try:
        async with session.get(f"{server.rest}/ready") as answer:
            return answer.status, await answer.json()
    except aiohttp.ClientError:
        return 0, None


async def until_ready(session: aiohttp.ClientSession, *servers: ChatServer) -> None:
    end = time.monotonic() + PATIENCE_S
    for server in servers:
        while (await ready(session, server))[0] != 200:
            assert time.monotonic() < end, server.log
            assert server.process.returncode is None, server.log
            await asyncio.sleep(0.05)


async def waits(session: aiohttp.ClientSession, server: ChatServer) -> bool:
    """True if another process performs the first step of the next version for it."""
    _, answer = await ready(session, server)
    others = f"another process upgrades to schema {THIS + 1} "
    return bool(answer) and answer.get("reason", "").startswith(others)


def test_the_steps_have_no_gap() -> None:
    assert [step.number for step in STEPS] == list(range(FIRST + 1, FIRST + 1 + len(STEPS)))


async def test_a_database_from_before_gets_a_version_and_is_upgraded_by_a_newer_server(
    launch: Launch, database: Database[Any], session: aiohttp.ClientSession
) -> None:
    old = await launch(ChatServer)
    await until_ready(session, old)
    assert state(database) == {"_id": "schema", "version": THIS, "server": __version__}
    assert counts(database) == {None}
    new = await launch()
    await until_ready(session, new)
    assert state(database) == {"_id": "schema", "version": NEWEST, "server": __version__}
    assert counts(database) == {2}, "each step passed each user once"
    assert (await ready(session, old))[0] == 200, "the older server goes on"


async def test_two_nodes_start_at_once_and_one_upgrades(
    launch: Launch, database: Database[Any], session: aiohttp.ClientSession
) -> None:
    nodes = [await launch(**SLOWLY), await launch(**SLOWLY)]
    await until_ready(session, *nodes)
    assert counts(database) == {2}
    assert state(database)["version"] == NEWEST
    for node in nodes:
        assert (
            lines(node, "preparing the database")[-1]["progress"]
            == f"the database has schema {NEWEST}"
        )


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_another_node_continues_where_one_was_killed_or_frozen(
    launch: Launch, database: Database[Any], session: aiohttp.ClientSession, fault: int
) -> None:
    first, second = [await launch(STEP_PER_USER_S="0.002") for _ in range(2)]
    async with asyncio.timeout(PATIENCE_S):
        while not await waits(session, second):
            if await waits(session, first):
                first, second = second, first
    first.signal(fault)
    done = state(database).get("done", 0)
    assert done < USERS
    stopped = time.monotonic()
    await until(lambda: state(database).get("done", 0) > done + 500)
    assert time.monotonic() - stopped > LEASE_S / 2, "it waits until the lease has run out"
    await until_ready(session, second)
    assert counts(database) == {2}, "no user was passed over, and none was passed twice"
    if fault == signal.SIGSTOP:
        first.signal(signal.SIGCONT)
        await until_ready(session, first)
        assert counts(database) == {2}, "the frozen node did not finish its batch a second time"


async def test_a_node_that_is_stopped_during_a_step_stops_cleanly(
    launch: Launch, database: Database[Any], session: aiohttp.ClientSession
) -> None:
    node = await launch(STEP_PER_USER_S="0.001")
    await until(lambda: state(database).get("done", 0) >= 500)
    assert await node.stop() == 0
    assert "Traceback" not in node.log
    assert state(database)["version"] == THIS
    ended = await next_version("migrate", **node.env)
    assert (ended.code, ended.out) == (0, f"The database {database.name} has schema {NEWEST}.\n")
    assert counts(database) == {2}


async def test_batches_that_take_too_long_become_smaller(
    launch: Launch, database: Database[Any], session: aiohttp.ClientSession
) -> None:
    database.users.delete_many({"_id": {"$gte": "user-00300"}})
    # The database ends a transaction after 2 s. All 300 users would take 3 s.
    node = await launch(STEP_PER_USER_S="0.01")
    await until_ready(session, node)
    assert counts(database) == {2}


async def test_while_a_step_runs_the_ports_answer_probes_and_refuse_the_rest(
    launch: Launch, database: Database[Any], session: aiohttp.ClientSession
) -> None:
    node = await launch(STEP_PER_USER_S="0.001")
    await until(lambda: state(database).get("done", 0) >= 500)
    end = time.monotonic() + PATIENCE_S
    while (answered := await ready(session, node))[0] != 503:
        assert time.monotonic() < end, answered
        await asyncio.sleep(0.02)
    assert answered[1]["status"] == "starting"
    assert answered[1]["reason"].startswith(f"upgrades to schema {THIS + 1} (Users are counted): ")
    assert answered[1]["reason"].endswith(" of about 3,000 documents")
    for port in (node.rest, node.sockets):
        async with session.get(f"{port}/health") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        for method, path in (
            ("GET", "/socket.io/?EIO=4&transport=polling"),
            ("POST", "/api/conversations"),
        ):
            async with session.request(method, port + path, json={}) as answer:
                assert answer.status == 503
                assert answer.headers["X-Request-Id"]
                assert answer.headers["Cache-Control"] == "no-store"
                assert (await answer.json())["error"]["code"] == "UNAVAILABLE"
    async with session.get(f"{node.sockets}/ready") as answer:
        assert answer.status == 503, "not /ready, which is on the other port"
        assert "status" not in await answer.json()
    async with session.get(f"{node.rest}/metrics") as answer:
        assert "chat_build_info" in await answer.text()
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await session.ws_connect(f"{node.sockets}/socket.io/?EIO=4&transport=websocket")
    await until_ready(session, node)
    alice = People(node, session)("alice")
    assert (await alice.ask("GET", "/conversations"))["items"] == []
    device = await alice.connect("polling")
    await device.close()


async def test_while_indexes_are_built_the_ports_answer_probes(
    own_mongo: MongoServer, launch: Launch, session: aiohttp.ClientSession
) -> None:
    building = {"status": "starting", "reason": "builds the indexes of log"}
    for kind in (ChatServer, RelayServer):
        with own_mongo.failing("createIndexes", blockConnection=True, blockTimeMS=3000):
            node = await launch(kind, own_mongo.url, WEBHOOK_URL=NOBODY, WEBHOOK_RELAY="off")
            end = time.monotonic() + PATIENCE_S
            while (answered := await ready(session, node))[1] != building:
                assert time.monotonic() < end, node.log
                await asyncio.sleep(0.02)
            assert answered[0] == 503
        await until_ready(session, node)


async def test_a_quick_start_opens_the_ports_only_when_the_node_is_ready(
    start: Starter, session: aiohttp.ClientSession
) -> None:
    """Otherwise balancers would pass requests to it that it refuses."""
    server = await start()
    assert await server.stop() == 0
    await server.launch()
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        while (status := (await ready(session, server))[0]) != 200:
            seen.append(status)
    assert set(seen) == {0}


async def test_an_older_server_is_refused_with_what_to_do(
    launch: Launch, database: Database[Any]
) -> None:
    database.schema.insert_one({"_id": "schema", "version": 7, "server": "9.1.0"})
    server = await launch(ChatServer)
    await server.process.wait()
    env = {**server.env, "WEBHOOK_URL": NOBODY}
    told = (
        f"The database has schema 7, written by chatserver 9.1.0. This is chatserver {__version__}, which knows"
        f" schemas up to {THIS}. Start chatserver 9.1.0 or newer, or restore a backup from before the upgrade.\n"
    )
    assert (server.process.returncode, server.log) == (1, told)
    for words in (("serve", "--workers", "2"), ("relay",), ("migrate",)):
        ended = await run(*words, **env)
        assert (ended.code, ended.out, ended.err) == (1, "", told), words
    found = await run("doctor", **env)
    assert f"PROBLEM  schema: {told}" in found.out
    assert "indexes" not in database.list_collection_names()
    assert set(database.list_collection_names()) == {"users", "schema"}, "nothing was created"


async def test_migrate_does_the_steps_and_can_be_repeated(
    mongo_url: str, database: Database[Any], tmp_path: Path
) -> None:
    env = ChatServer(mongo_url, database.name, tmp_path / "log").env
    now = await run("migrate", **env)
    assert (now.code, now.err.splitlines()[-1]) == (0, f"the database has schema {THIS}")
    assert now.out == f"The database {database.name} has schema {THIS}.\n"
    again = await run("migrate", **env)
    assert (again.code, again.out, again.err) == (0, now.out, "")
    assert f"OK       schema: {THIS}\n" in (await run("doctor", **env)).out
    upgrades = f"schema: {THIS}; the next start upgrades it to {NEWEST}"
    assert upgrades in (await next_version("doctor", **env)).out
    shown = [
        *(
            f"upgrades to schema {n} (Users are counted): 0 of about 3,000 documents"
            for n in (THIS + 1, NEWEST)
        ),
        f"the database has schema {NEWEST}",
    ]
    for expected in (shown, []):
        later = await next_version("migrate", **env)
        # A slow one is also shown on its way.
        lines = [line for line in later.err.splitlines() if "00 of about" not in line]
        told = (0, f"The database {database.name} has schema {NEWEST}.\n", expected)
        assert (later.code, later.out, lines) == told
        assert counts(database) == {2}


async def test_migrate_continues_after_ctrl_c(launch: Launch, database: Database[Any]) -> None:
    command = await launch(Migrate, STEP_PER_USER_S="0.002")
    await until(lambda: state(database).get("done", 0) >= 500)
    command.signal(signal.SIGINT)
    assert await command.process.wait() == 1, command.log
    assert command.log.endswith(
        "Interrupted. The next run, or the next start of a server, continues.\n"
    )
    assert state(database)["version"] == THIS
    command = await launch(Migrate)
    assert await command.process.wait() == 0
    assert counts(database) == {2}
