"""Ctrl-C: a stop keeps nobody waiting, says what it waits for, and ends at once when it is asked again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.support.patience import slowness
from tests.support.people import People
from tests.support.processes import runs, until
from tests.support.raw import RESTARTS, Answer, Wire, history, when
from tests.support.receiver import Receiver
from tests.support.relays import children, lines, ready
from tests.support.servers import ChatServer, RelayServer

SECOND = 1.0
KILLED = 128 + signal.SIGINT
PRODUCTION = {"ENV": "production", "DRAIN_S": "20"}


class Terminal(ChatServer):
    """A server in a process group of its own, as a shell starts it."""

    starts_group = True

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    async def ended(self, within: float) -> int:
        return await asyncio.wait_for(self.process.wait(), within * slowness())

    def below(self) -> list[int]:
        """Returns its children: the relay, the workers and mongod."""
        lock = Path(self.env["DATA_DIR"]) / "mongodb" / "mongod.lock"
        return [int(lock.read_text()), *children(self)]


class Relay(Terminal, RelayServer):
    pass


Starting = Callable[..., Awaitable[Terminal]]


@pytest_asyncio.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Starting]:
    """Starts a server with its own MongoDB."""
    async with AsyncExitStack() as stack:

        async def start(*options: str, **settings: str) -> Terminal:
            data = {"DATA_DIR": str(tmp_path / "data"), "TMPDIR": str(tmp_path)}
            server = Terminal("", "chat", tmp_path / "log", **data, **settings)
            server.options = options
            if "DRAIN_S" not in settings:
                del server.env["DRAIN_S"]
            stack.push_async_callback(server.kill)
            await server.start()
            return server

        yield start


async def test_in_development_a_stop_takes_a_second_although_clients_are_connected(
    terminal: Starting, session: aiohttp.ClientSession
) -> None:
    server = await terminal()
    alice = People(server, session)("alice")
    wires = [await Wire.connect(alice) for _ in range(12)]
    mongod, *_ = server.below()
    server.ctrl_c()
    assert await server.ended(SECOND) == 0
    assert [await wire.ended() for wire in wires] == [RESTARTS] * 12
    assert not runs(mongod)
    assert "Traceback" not in server.log


async def test_in_production_nobody_is_waited_for_when_nobody_is_connected(
    terminal: Starting, session: aiohttp.ClientSession
) -> None:
    server = await terminal(**PRODUCTION)
    alice, bob = People(server, session)("alice", "bob")
    await alice.direct(bob)
    await (await Wire.connect(alice)).close()
    server.ctrl_c()
    assert await server.ended(SECOND) == 0
    assert [line["waits_for"] for line in lines(server, "stopping")] == [
        "MongoDB to close its files (30 s at most)"
    ]


@pytest.mark.parametrize("phase", ["load balancers to notice", "clients to move"])
async def test_the_wait_ends_when_the_last_client_has_left(
    terminal: Starting, session: aiohttp.ClientSession, phase: str
) -> None:
    server = await terminal(ENV="production", DRAIN_S="20" if "notice" in phase else "3")
    people = People(server, session)
    wires = [await Wire.connect(people(f"user{n}")) for n in range(15)]
    server.ctrl_c()
    await until(lambda: phase in server.log)
    await asyncio.gather(*(wire.close() for wire in wires))
    assert await server.ended(SECOND) == 0


async def test_the_terminal_says_what_a_stop_waits_for(
    terminal: Starting, session: aiohttp.ClientSession
) -> None:
    async with Receiver() as receiver:
        server = await terminal(DRAIN_S="1", WEBHOOK_URL=receiver.url)
        await ready(server)
        alice, bob, carol = People(server, session)("alice", "bob", "carol")
        wires = [await Wire.connect(person) for person in (alice, bob, carol)]
        server.ctrl_c()
        assert await server.ended(10) == 0
        assert await wires[0].ended() == RESTARTS
    again = "Press Ctrl-C again to stop at once."
    assert [line for line in server.log.splitlines() if line.startswith("Stopping")] == [
        f"Stopping: waiting for {what}. {again}"
        for what in (
            "load balancers to notice (0.3 s at most)",
            "3 clients to move to other nodes (0.7 s at most)",
            "the relay to finish its deliveries (12 s at most)",
            "MongoDB to close its files (30 s at most)",
        )
    ]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_ctrl_c_ends_every_process_at_once_and_loses_nothing(
    terminal: Starting,
    session: aiohttp.ClientSession,
    redis_url: str,
    tmp_path: Path,
    workers: int,
    number: signal.Signals,
) -> None:
    async with Receiver() as receiver:
        several = {"REDIS_URL": redis_url, "MONGO_DATABASE": f"stop-{time.monotonic_ns()}"}
        server = await terminal(
            *(["--workers", f"{workers}"] if workers > 1 else []),
            **{**PRODUCTION, "WEBHOOK_URL": receiver.url, **(several if workers > 1 else {})},
        )
        await ready(server)
        alice, bob = People(server, session)("alice", "bob")
        talk = await alice.direct(bob)
        wire = await Wire.connect(alice)
        asked: list[asyncio.Future[Answer]] = []

        async def speak() -> None:
            while not wire.gone.is_set():
                with suppress(ConnectionError):
                    asked.append(await wire.say(talk, f"{len(asked)}", f"{len(asked)}"))
                await asyncio.sleep(0.002)

        speaking = asyncio.create_task(speak())
        await when(lambda: len(asked) > 100)
        below = server.below()
        assert len(below) == 1 + 1 + (workers if workers > 1 else 0)
        os.killpg(server.process.pid, number)
        await until(lambda: bool(lines(server, "stopping")))
        await asyncio.sleep(0.3)
        assert server.process.returncode is None, "it waits for Alice"
        os.killpg(server.process.pid, number)
        assert await server.ended(SECOND) == 128 + number
        assert [pid for pid in below if runs(pid)] == []
        assert list(tmp_path.glob("chatserver-*")) == []
        await speaking
        acked = [answer["data"]["content"] for ask in asked if (answer := await ask) is not None]
        assert len(acked) > 50

        await server.start()
        assert [message["content"] for message in await history(bob, talk)][: len(acked)] == acked


async def test_signals_that_follow_each_other_closely_are_one_ctrl_c(
    terminal: Starting, session: aiohttp.ClientSession
) -> None:
    """Programs such as npm pass on the signal that the terminal has sent to the server already."""
    server = await terminal(DRAIN_S="1")
    wire = await Wire.connect(People(server, session)("alice"))
    server.ctrl_c()
    server.ctrl_c()
    assert await wire.ended() == RESTARTS
    assert await server.ended(5) == 0


async def test_a_relay_says_what_it_waits_for_and_ends_at_once_when_it_is_asked_again(
    terminal: Starting, session: aiohttp.ClientSession, mongo_url: str, tmp_path: Path
) -> None:
    never = asyncio.Event()

    async def hang(_: object) -> None:
        await never.wait()

    async with Receiver() as receiver:
        receiver.answer = lambda post: hang
        settings = {"WEBHOOK_URL": receiver.url, "MONGO_DATABASE": f"stop-{time.monotonic_ns()}"}
        server = await terminal(MONGO_URL=mongo_url, WEBHOOK_RELAY="off", **settings)
        relay = Relay(mongo_url, settings["MONGO_DATABASE"], tmp_path / "relay", **settings)
        await relay.start()
        try:
            alice, bob = People(server, session)("alice", "bob")
            await alice.direct(bob)
            await until(lambda: bool(receiver.posts))
            relay.ctrl_c()
            await until(lambda: "waiting for" in relay.log)
            await asyncio.sleep(0.3)
            relay.ctrl_c()
            assert await relay.ended(SECOND) == KILLED
        finally:
            never.set()
            await relay.kill()
    (said,) = [line for line in relay.log.splitlines() if line.startswith("Stopping")]
    assert "deliver" in said
    assert "(6 s at most). Press Ctrl-C again to stop at once." in said
