"""The relay process: the child of a server starts and stops with it; a separate one runs on its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.conftest import Starter
from tests.support.command import run
from tests.support.patience import PATIENCE_S, slowness
from tests.support.processes import runs, until
from tests.support.receiver import Receiver, raw
from tests.support.relays import NOBODY, Of, children, lines, metrics, ready
from tests.support.servers import ROOT, ChatServer, MongoServer, RelayServer, free_port


async def test_a_server_with_an_endpoint_has_a_relay_beside_it(start: Starter) -> None:
    server = await start(WEBHOOK_URL=NOBODY)
    await ready(server)
    (child,) = children(server)
    assert runs(child)
    assert os.getsid(child) != os.getsid(server.process.pid), "Ctrl-C is for the server alone"
    (line,) = lines(server, "relaying")
    assert (line["process"], line["level"], line["endpoints"]) == ("relay", "info", ["default"])
    now = await metrics(server)
    for outcome in ("delivered", "failed", "dead"):
        assert now[f"chat_webhook_deliveries_total default {outcome}"] == 0
    assert now["chat_webhook_attempt_seconds_count default"] == 0
    assert await server.stop() == 0
    assert not runs(child)


async def test_only_its_owner_can_connect_to_the_metrics_socket_of_the_relay(
    start: Starter, tmp_path: Path
) -> None:
    server = await start(WEBHOOK_URL=NOBODY, TMPDIR=str(tmp_path))
    await ready(server)
    (folder,) = tmp_path.glob("chatserver-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in folder.iterdir()] == ["relay"]
    assert await server.stop() == 0
    assert not folder.exists()


async def test_a_dead_relay_is_restarted(start: Starter) -> None:
    server = await start(WEBHOOK_URL=NOBODY)
    await ready(server)
    os.kill(children(server)[0], signal.SIGKILL)
    await until(lambda: len(children(server)) == 2)
    await ready(server)
    (ended,) = lines(server, "child.ended")
    assert (ended["child"], ended["code"], ended["level"]) == ("relay", -9, "error")


async def test_a_relay_that_cannot_run_does_not_disturb_the_server(
    start: Starter, people_of: Of, tmp_path: Path
) -> None:
    file = tmp_path / "webhooks.toml"
    endpoint = f'[crm]\nurl = "{NOBODY}"\nsecret = "{"s" * 32}"\n'
    file.write_text(endpoint)
    server = await start(WEBHOOKS_FILE=str(file))
    await ready(server)
    file.unlink()
    os.kill(children(server)[0], signal.SIGKILL)
    await until(lambda: len(lines(server, "child.ended")) == 3)
    ended = lines(server, "child.ended")
    assert [line["code"] for line in ended] == [-9, 2, 2]
    assert [line["again_in_s"] for line in ended] == [0.5, 1, 2]
    assert "webhooks.toml cannot be read" in server.log
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Are you there?"})
    assert "chat_requests_total internal" not in await metrics(server)
    file.write_text(endpoint)
    await ready(server)


async def test_a_relay_runs_the_code_of_its_server_wherever_that_was_started(
    mongo_url: str, worker: str, tmp_path: Path
) -> None:
    """The command that pip installs does not import from the current folder, nor may its relay."""
    (tmp_path / "chatserver").mkdir()
    (tmp_path / "chatserver" / "__init__.py").write_text("raise SystemExit('Another version')")
    server = ChatServer(
        mongo_url,
        f"code-{worker}",
        tmp_path / "log",
        WEBHOOK_URL=NOBODY,
        PYTHONPATH=str(ROOT),
    )
    server.python, server.cwd = (sys.executable, "-P"), tmp_path
    try:
        await server.start()
        await ready(server)
    finally:
        assert await server.stop() == 0
    assert "Another version" not in server.log


class Embedded:
    def __init__(self, folder: Path) -> None:
        self.data, self.tmp = folder / "data", folder / "tmp"
        self.tmp.mkdir()
        self.server = ChatServer(
            "",
            "chat",
            folder / "log",
            DATA_DIR=str(self.data),
            TMPDIR=str(self.tmp),
            WEBHOOK_URL=NOBODY,
            WEBHOOK_SECRET="",  # the server generates one, and the relay must use the same
        )

    def processes(self) -> list[int]:
        """The server's child processes: its database and its relay."""
        mongod = int((self.data / "mongodb" / "mongod.lock").read_text())
        return [mongod, children(self.server)[-1]]


@pytest_asyncio.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Embedded]:
    embedded = Embedded(tmp_path)
    await embedded.server.start()
    await ready(embedded.server)
    yield embedded
    await embedded.server.stop()
    assert "Traceback" not in embedded.server.log


async def test_a_killed_server_takes_its_relay_and_its_database_with_it(embedded: Embedded) -> None:
    mongod, relay = embedded.processes()
    await embedded.server.kill()
    await until(lambda: not runs(relay), within=2)
    await until(lambda: not runs(mongod))
    assert list(embedded.tmp.iterdir()) == []
    await embedded.server.start()
    await ready(embedded.server)


async def test_a_relay_soon_follows_a_killed_server_even_without_a_database(
    embedded: Embedded,
) -> None:
    mongod, relay = embedded.processes()
    os.kill(mongod, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.5)
        await embedded.server.kill()
        await until(lambda: not runs(relay), within=2)
    finally:
        os.kill(mongod, signal.SIGCONT)
    await until(lambda: not runs(mongod))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_relay_and_database_stop_with_the_server_in_time(
    embedded: Embedded, number: int
) -> None:
    processes = embedded.processes()
    began = time.monotonic()
    embedded.server.signal(number)
    assert await embedded.server.process.wait() == 0
    assert time.monotonic() - began < 8 * slowness()
    assert not any(map(runs, processes))
    assert lines(embedded.server, "child.ended") == [], "nobody misses it"
    assert list(embedded.tmp.iterdir()) == []


@pytest.mark.parametrize(
    "settings", [{"WEBHOOK_URL": NOBODY, "WEBHOOK_RELAY": "off"}, {"WEBHOOK_URL": ""}]
)
async def test_a_server_without_a_relay_of_its_own(
    start: Starter, settings: dict[str, str]
) -> None:
    server = await start(**settings)
    await asyncio.sleep(1)
    assert children(server) == []
    assert "chat_webhook_relay_ready" not in await metrics(server)


async def test_a_separate_relay_serves_health_and_metrics_until_it_is_stopped(
    mongo_url: str, worker: str, tmp_path: Path
) -> None:
    relay = RelayServer(mongo_url, f"alone-{worker}", tmp_path / "log", WEBHOOK_URL=NOBODY)
    try:
        await relay.start()
        async with aiohttp.ClientSession() as http:
            for path, body in {
                "/health": {"status": "ok"},
                "/ready": {"status": "ready", "mongo": "ok", "relay": "ok"},
            }.items():
                async with http.get(relay.rest + path) as answer:
                    assert (answer.status, await answer.json()) == (200, body)
        assert (await metrics(relay))["chat_webhook_relay_ready"] == 1
    finally:
        assert await relay.stop() == 0
    assert {line["process"] for line in map(json.loads, relay.log.splitlines())} == {"relay"}


async def test_a_relay_that_has_lost_its_database_is_not_ready(
    own_mongo: MongoServer, tmp_path: Path
) -> None:
    relay = RelayServer(own_mongo.url, "chat", tmp_path / "log", WEBHOOK_URL=NOBODY)

    async def readiness() -> int:
        async with aiohttp.ClientSession() as http, http.get(f"{relay.rest}/ready") as answer:
            return answer.status

    try:
        await relay.start()
        await asyncio.to_thread(own_mongo.kill)
        assert await readiness() == 503
        await asyncio.to_thread(own_mongo.start)
        async with asyncio.timeout(PATIENCE_S):
            while await readiness() != 200:  # noqa: ASYNC110  it is asked over the wire
                await asyncio.sleep(0.1)
    finally:
        assert await relay.stop() == 0
    assert "Traceback" not in relay.log


async def test_deliveries_in_flight_at_a_stop_are_finished_and_not_repeated(
    start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver:

        async def late(request: web.BaseRequest) -> None:
            await asyncio.sleep(1)
            await raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(request)

        receiver.answer = lambda post: late
        server = await start(WEBHOOK_URL=receiver.url)
        await ready(server)
        alice, bob = people_of(server)("alice", "bob")
        talk = await alice.direct(bob)
        await receiver.until(lambda: len(receiver.posts) == 1)
        began = time.monotonic()
        assert await server.stop() == 0
        assert 0.5 < time.monotonic() - began < 6 * slowness()

        receiver.answer = lambda post: 200
        await server.start()
        await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Next"})
        await receiver.until(lambda: len(receiver.posts) == 2)
        assert [post.event["type"] for post in receiver.posts] == [
            "conversation.created",
            "message.created",
        ]


SECRETS = {"AUTH_JWT_SECRET": "a" * 32, "INTERNAL_API_SECRET": "i" * 32, "WEBHOOK_SECRET": "w" * 32}
AWAY = "mongodb://127.0.0.1:9/?replicaSet=none"


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"WEBHOOK_URL": NOBODY}, 2, "MONGO_URL is missing. The embedded MongoDB works only"),
        ({"MONGO_URL": AWAY}, 2, "set WEBHOOK_URL or WEBHOOKS_FILE"),
        ({"MONGO_URL": AWAY, "WEBHOOK_URL": NOBODY}, 1, "MongoDB is not available: "),
    ],
)
async def test_a_relay_that_cannot_start_says_why(
    settings: dict[str, str], code: int, words: str
) -> None:
    ran = await run("relay", **SECRETS, **settings, PORT=str(free_port()))
    assert ran.code == code
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


async def test_a_taken_port_is_reported_in_a_sentence(server: ChatServer, mongo_url: str) -> None:
    ran = await run(
        "relay",
        **SECRETS,
        MONGO_URL=mongo_url,
        MONGO_DATABASE="taken",
        WEBHOOK_URL=NOBODY,
        HOST="127.0.0.1",
        PORT=str(server.port),
    )
    assert ran.code == 1
    assert "Set PORT or WS_PORT" in ran.err
