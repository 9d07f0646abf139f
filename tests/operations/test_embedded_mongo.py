"""The embedded MongoDB: no write is lost, whichever process is killed, and no mongod is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from tests.support.command import run
from tests.support.patience import PATIENCE_S, slowness
from tests.support.people import People, Person
from tests.support.processes import runs, until
from tests.support.servers import ChatServer


class Home:
    """A server with its own MongoDB in a folder, and Alice, who talks to Bob there."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.data = folder / "data"
        self.server = ChatServer("", "chat", folder / "log", DATA_DIR=str(self.data))
        self.alice: Person
        self.alice, self.bob = People(self.server, session)("alice", "bob")
        self.said: list[str] = []

    async def start(self) -> None:
        await self.server.start()

    def mongod(self) -> int:
        return int((self.data / "mongodb" / "mongod.lock").read_text())

    async def say(self, *texts: str) -> None:
        talk = (await self.alice.direct(self.bob))["id"]
        for text in texts:
            await self.alice.ask("POST", f"/conversations/{talk}/messages", {"content": text})
            self.said.append(text)

    async def nothing_is_lost(self) -> None:
        talk = (await self.bob.direct(self.alice))["id"]
        page = await self.bob.ask("GET", f"/conversations/{talk}/messages?limit=200")
        assert [message["content"] for message in page["items"]] == self.said


@pytest_asyncio.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with aiohttp.ClientSession() as session:
        home = Home(tmp_path, session)
        await home.start()
        yield home
        await home.server.stop()


async def until_it_answers(
    question: Callable[[], Awaitable[Any]], within: float = PATIENCE_S
) -> None:
    end = time.monotonic() + within
    while True:
        try:
            await question()
            return
        except Exception:  # raised when the time is over
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)


async def test_a_stop_stops_the_database_and_a_second_start_finds_everything(home: Home) -> None:
    await home.say("one", "two")
    mongod = home.mongod()
    assert await home.server.stop() == 0
    assert not runs(mongod)
    began = time.monotonic()
    await home.start()
    assert time.monotonic() - began < 15 * slowness()
    await home.nothing_is_lost()


async def test_ctrl_c_reaches_the_server_and_not_its_database(home: Home) -> None:
    mongod = home.mongod()
    assert os.getsid(mongod) != os.getsid(home.server.process.pid)
    home.server.signal(signal.SIGINT)
    home.server.signal(signal.SIGINT)  # an impatient user
    assert await home.server.process.wait() == 0
    assert not runs(mongod)
    assert "Traceback" not in home.server.log


async def test_a_killed_server_leaves_no_mongod_and_loses_nothing(home: Home) -> None:
    await home.say(*map(str, range(20)))
    mongod = home.mongod()
    await home.server.kill()
    await until(lambda: not runs(mongod))
    await home.start()
    await home.nothing_is_lost()


async def test_the_next_start_stops_a_mongod_that_outlived_its_server(home: Home) -> None:
    await home.say("one")
    mongod = home.mongod()
    os.kill(mongod, signal.SIGSTOP)  # so that it cannot exit by itself
    await home.server.kill()
    again = asyncio.create_task(home.start())
    try:
        await until(lambda: "mongod.orphan" in home.server.log)
        assert runs(mongod)
    finally:
        os.kill(mongod, signal.SIGCONT)
    await again
    assert not runs(mongod)
    await home.nothing_is_lost()


async def test_server_and_database_killed_at_once_lose_nothing(home: Home) -> None:
    await home.say(*map(str, range(20)))
    os.kill(home.mongod(), signal.SIGKILL)
    await home.server.kill()
    await home.start()
    await home.nothing_is_lost()


async def test_a_database_that_dies_is_restarted(home: Home) -> None:
    await home.say("before")
    os.kill(home.mongod(), signal.SIGKILL)
    await until_it_answers(lambda: home.say("after"))
    await home.nothing_is_lost()


async def test_a_second_server_on_the_same_data_is_refused_in_a_sentence(home: Home) -> None:
    second = await run("serve", DATA_DIR=str(home.data), PORT="0", WS_PORT="0")
    assert second.code == 1
    assert f"Another server (process {home.server.process.pid}) is using" in second.err
    await home.say("still here")
    await home.nothing_is_lost()


async def test_the_data_can_be_moved(home: Home, tmp_path: Path) -> None:
    await home.say("one")
    await home.server.stop()
    home.data = home.data.rename(tmp_path / "moved")
    home.server.env["DATA_DIR"] = str(home.data)
    await home.start()
    await home.nothing_is_lost()


async def test_only_the_user_can_access_the_database(home: Home) -> None:
    folder = home.data / "mongodb"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "mongod.sock").stat().st_mode & 0o777 == 0o600
    ours = {os.readlink(path) for path in Path(f"/proc/{home.mongod()}/fd").iterdir()}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            assert f"socket:[{line.split()[9]}]" not in ours


async def test_a_mongod_that_cannot_run_says_what_to_do(tmp_path: Path) -> None:
    broken = tmp_path / "mongod"
    broken.write_text(
        "#!/bin/sh\necho 'libcurl.so.4: cannot open shared object file' >&2; exit 127\n"
    )
    broken.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = await run("serve", DATA_DIR=str(tmp_path / "data"), PATH=path)
    assert ran.code == 1
    assert "apt-get install libcurl4" in ran.err
    assert "Set MONGO_URL" in ran.err
