"""`chatserver serve --workers N`: several nodes behind one port of one machine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest_asyncio

from tests.support.browsers import Browser
from tests.support.command import run
from tests.support.patience import PATIENCE_S, slowness
from tests.support.people import People
from tests.support.processes import runs, until
from tests.support.raw import RESTARTS, Wire, history
from tests.support.relays import NOBODY, children, lines, metrics, ready
from tests.support.servers import INTERNAL_SECRET, JWT_SECRET, WEBHOOK_SECRET, ChatServer
from tests.support.talkers import Patient, all_heard

WORKERS = 2
Of = Callable[[ChatServer], People]
ServerOfWorkers = Callable[..., Awaitable[ChatServer]]


class Workers(ChatServer):
    options = ("--workers", f"{WORKERS}")


@pytest_asyncio.fixture
async def workers(
    mongo_url: str, worker: str, tmp_path: Path, redis_url: str
) -> AsyncIterator[ServerOfWorkers]:
    async with AsyncExitStack() as stack:

        async def start(**settings: str) -> ChatServer:
            database = f"workers-{worker}-{time.monotonic_ns()}"
            settings = {"REDIS_URL": redis_url, "PRESENCE_GRACE_S": "60", **settings}
            server = Workers(mongo_url, database, tmp_path / "log", **settings)
            stack.push_async_callback(server.stop)
            await server.start()
            await until(lambda: bool(lines(server, "workers listen")))
            return server

        yield start


async def sockets(server: ChatServer) -> list[float]:
    """The number of sockets of each worker, as reported by any of them."""
    now = await metrics(server)
    return [
        value
        for name, value in sorted(now.items())
        if name.startswith("chat_connections websocket ")
    ]


async def has_sockets(server: ChatServer, wanted: int) -> list[float]:
    async with asyncio.timeout(PATIENCE_S):
        while len(found := await sockets(server)) < WORKERS or sum(found) != wanted:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.05)
    return found


def descendants(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


async def test_workers_need_redis(tmp_path: Path) -> None:
    ended = await run("serve", "--workers", "2", DATA_DIR=str(tmp_path))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("REDIS_URL is missing: each worker is a node")
    ended = await run("serve", "--workers", "0", DATA_DIR=str(tmp_path))
    assert ended.code == 2


async def test_clients_land_on_all_workers_and_one_relay_serves_them(
    workers: ServerOfWorkers, people_of: Of
) -> None:
    server = await workers(WEBHOOK_URL=NOBODY)
    await ready(server)
    people = people_of(server)
    guests = people(*(f"guest{n}" for n in range(24)))
    talk = await guests[0].group(*guests[1:])
    wires = await asyncio.gather(*[Wire.connect(person) for person in guests])
    per_worker = await has_sockets(server, 24)
    assert len(per_worker) == WORKERS
    assert min(per_worker) >= 1
    for wire in wires:
        await wire.do("message:send", {"conversationId": talk["id"], "content": "Hello"})
    log = await history(guests[5], talk)
    assert len(log) == 24
    for wire in wires:
        await wire.until(lambda wire=wire: len(wire.told("message:new")) >= 24)
        assert wire.told("message:new") == log, "whichever worker stored the message"

    started = lines(server, "child.started")
    assert sorted(line["child"] for line in started) == ["relay", "worker-1", "worker-2"]
    # Any worker reports the metrics of all, in a form that Prometheus accepts (`metrics` checks that).
    for _ in range(6):
        now = await metrics(server)
        sends = "chat_requests_total OK socket message:send "
        assert sum(count for name, count in now.items() if name.startswith(sends)) == 24
        of_webhooks = {name for name in now if "relay_ready" in name or "pending" in name}
        assert of_webhooks == {"chat_webhook_relay_ready", "chat_webhook_pending default"}


async def test_only_websockets_are_served_and_polling_clients_get_the_reason(
    workers: ServerOfWorkers, people_of: Of
) -> None:
    server = await workers()
    alice, bob = people_of(server)("alice", "bob")
    url = f"{server.sockets}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 400
        told = 'Only WebSocket is enabled here: connect with transports: ["websocket"]'
        assert await answer.json() == {"code": 0, "message": told}
    talk = await alice.direct(bob)
    desk = await Browser.open(alice, "websocket")
    await desk.hears("connected")
    sent = await desk.say(talk, "Hello")
    assert await desk.hears("message:new") == sent
    assert await bob.ask("GET", f"/messages/{sent['id']}") == sent


async def test_a_worker_that_is_killed_loses_nothing_and_is_replaced(
    workers: ServerOfWorkers, people_of: Of
) -> None:
    server = await workers()
    people = people_of(server)
    crowd = people(*(f"person{n}" for n in range(24)))
    talk = await crowd[0].group(*crowd[1:])
    # The kernel draws the worker of each connection: eight all land on one worker once in 128 runs.
    talkers = [Patient(person, talk, 1 if n < 8 else 0) for n, person in enumerate(crowd)]
    running = [asyncio.create_task(talker.run()) for talker in talkers]
    await until(lambda: all(talker.said > 5 for talker in talkers[:8]))
    await until(lambda: all(talker.wires for talker in talkers))
    assert lines(server, "child.ended") == [], "all workers can start together on an empty database"
    os.kill(children(server)[0], signal.SIGKILL)
    await until(lambda: any(talker.codes for talker in talkers))
    await until(lambda: len(children(server)) == WORKERS + 1)
    await asyncio.sleep(1)
    for talker in talkers:
        talker.stopping = True
    await asyncio.wait(running, timeout=15)
    assert [talker.open for talker in talkers] == [set()] * len(talkers)
    await asyncio.gather(*running)

    (ended,) = lines(server, "child.ended")
    assert (ended["child"].partition("-")[0], ended["code"]) == ("worker", -9)
    log = await history(crowd[0], talk)
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    by_id = {message["id"]: message for message in log}
    for talker in talkers:
        assert sorted(talker.acked) == list(range(talker.said))
        assert all(by_id[message["id"]] == message for message in talker.acked.values())
        mine = [message["content"] for message in log if message["senderId"] == talker.person.id]
        assert sorted(map(int, mine)) == list(range(talker.said)), "once each"
    await all_heard(talkers, log)
    assert any(len(talker.wires) == 1 for talker in talkers), (
        "some talkers were on the other worker"
    )
    # New connections reach the new worker, too.
    async with asyncio.timeout(PATIENCE_S):
        while len(found := await sockets(server)) < WORKERS or not all(found):
            await Wire.connect(people("guest"))


async def test_a_stop_drains_all_at_the_same_time_and_leaves_nothing_behind(
    workers: ServerOfWorkers, people_of: Of
) -> None:
    server = await workers(DRAIN_S="2", WEBHOOK_URL=NOBODY)
    await ready(server)
    people = people_of(server)
    wires = [await Wire.connect(people("guest")) for _ in range(16)]
    assert min(await has_sockets(server, 16)) >= 1
    below = descendants(server.process.pid)
    assert len(below) >= WORKERS + 1
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    async with people.session.get(f"{server.rest}/health") as answer:
        assert answer.status == 200
    assert [await wire.ended() for wire in wires] == [RESTARTS] * len(wires)
    assert await server.stop() == 0
    assert time.monotonic() - began < 8 * slowness(), "draining one after another would take longer"
    assert [pid for pid in below if runs(pid)] == []
    assert "Traceback" not in server.log


async def test_a_parent_that_is_killed_leaves_no_orphan_and_can_be_started_again(
    workers: ServerOfWorkers, tmp_path: Path
) -> None:
    server = await workers(
        MONGO_URL="", DATA_DIR=str(tmp_path / "data"), WEBHOOK_URL=NOBODY, TMPDIR=str(tmp_path)
    )
    await ready(server)
    below = descendants(server.process.pid)
    programs = [os.path.basename(os.readlink(f"/proc/{pid}/exe")) for pid in below]
    assert programs.count("mongod") == 1, "one database for all"
    await server.kill()
    await until(lambda: not any(runs(pid) for pid in below))
    assert list(tmp_path.glob("chatserver-*")) == []
    await server.start()
    assert await server.stop() == 0


async def test_the_ports_of_another_server_are_not_shared(
    workers: ServerOfWorkers, tmp_path: Path
) -> None:
    server = await workers()
    secrets = {
        "AUTH_JWT_SECRET": JWT_SECRET,
        "INTERNAL_API_SECRET": INTERNAL_SECRET,
        "WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    settings = {
        key: server.env[key] for key in ("HOST", "PORT", "WS_PORT", "MONGO_URL", "REDIS_URL")
    }
    for words in (("serve",), ("serve", "--workers", "2")):
        ended = await run(*words, **secrets, **settings, DATA_DIR=str(tmp_path))
        assert ended.code == 1
        assert "Set PORT or WS_PORT to a free port" in ended.err
