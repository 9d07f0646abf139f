"""Two nodes behind a load balancer configured by config/, and clients that connect and talk all the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from .browsers import Browser
from .patience import PATIENCE_S
from .people import People, Person, Refused
from .proxies import PROXIES, Proxy, proxy
from .raw import Wire, history, when
from .servers import ChatServer
from .talkers import Patient, all_heard, assert_no_gap

Balanced = tuple[ChatServer, ChatServer, Proxy, People]
DRAIN_S = 10
"""The default. The balancers' health checks must notice a stop within its first part."""


@pytest_asyncio.fixture(params=PROXIES)
async def balanced(
    request: pytest.FixtureRequest,
    start: Callable[..., Awaitable[ChatServer]],
    tmp_path: Path,
    redis_url: str,
) -> AsyncIterator[Balanced]:
    """Two nodes, a balancer in front, and people who know only the balancer."""
    common = {
        "REDIS_URL": redis_url,
        "DRAIN_S": f"{DRAIN_S}",
        "SOCKETS_PER_USER": "0",
        "PRESENCE_GRACE_S": "60",
    }
    a, b = await start(NODE_NAME="a", **common), await start(NODE_NAME="b", **common)
    async with (
        proxy(request.param, tmp_path, (a, b)) as balancer,
        aiohttp.ClientSession() as session,
    ):
        people = People(balancer, session)
        yield a, b, balancer, people
        await people.go_home()
        # Newcomers leave open sessions, for which a drain would wait.
        await asyncio.gather(a.kill(), b.kill())


def node_of(browser: Browser) -> str:
    sessions = [payload for name, payload in browser.heard if name == "client:session"]
    return str(sessions[-1]).partition(".")[0]


def node_of_wire(wire: Wire) -> str:
    return wire.frames[0].partition('"sid":"')[2].partition(".")[0]


async def browser_on(node: str, person: Person, transports: list[str]) -> Browser:
    """Returns a browser that the balancer happens to send to `node`."""
    others: list[Wire] = []
    for _ in range(40):
        # The balancer chooses the node with the fewest connections. When it has chosen this node and later the other
        # one, then this one has fewer as soon as its new connections are closed.
        wires, chosen = [], ""
        while not chosen.partition(node)[2].strip(node):
            wires.append(await Wire.connect(person))
            chosen += node_of_wire(wires[-1])
        others += [wire for wire in wires if node_of_wire(wire) != node]
        await asyncio.gather(*[wire.close() for wire in wires if wire not in others])
        browser = await Browser.open(person, *transports)
        await browser.hears("connected")
        if node_of(browser) == node:
            await asyncio.gather(*[wire.close() for wire in others])
            return browser
        await browser.close()
    raise AssertionError(f"no browser reaches {node}")


async def upgraded(browser: Browser) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while ("client:upgrade", "websocket") not in browser.heard:
            await browser.caught_up()


class Newcomers:
    """New clients connect all the time, with both transports in turn. Refusals are recorded."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.came: list[tuple[float, str]] = []
        """The time and the node of each connection."""
        self.refused: list[str] = []
        self._task = asyncio.create_task(self._come())

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _come(self) -> None:
        url = f"{self._people.server.sockets}/socket.io/?EIO=4&transport="
        session = self._people.session
        while True:
            for connect in (self._polling, self._websocket):
                try:
                    await connect(session, url)
                except (aiohttp.ClientError, ValueError) as error:
                    self.refused.append(repr(error))
                await asyncio.sleep(0.03)

    async def _polling(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(url + "polling", raise_for_status=True) as answer:
            self._in(await answer.text())

    async def _websocket(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.ws_connect(url + "websocket") as websocket:
            frame = await websocket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                raise ValueError(frame)
            self._in(frame.data)

    def _in(self, opened: str) -> None:
        sid = opened.partition('"sid":"')[2]
        self.came.append((time.monotonic(), sid.partition(".")[0]))


class MasterService:
    """Posts all the time, and repeats requests without a response. Failures are recorded."""

    def __init__(self, person: Person, talk: Any) -> None:
        self._person = person
        self._talk = talk
        self.said = 0
        self.failed: list[str] = []
        self._stopping = False
        self._task = asyncio.create_task(self._say())

    async def end(self) -> None:
        self._stopping = True
        await self._task

    async def _say(self) -> None:
        path = f"/conversations/{self._talk['id']}/messages"
        while not self._stopping:
            body = {"content": f"{self.said}", "clientMessageId": f"rest-{self.said}"}
            try:
                await self._person.ask("POST", path, body)
                self.said += 1
            except Refused as refusal:
                if refusal.code != "UNAVAILABLE":
                    raise
            except (aiohttp.ClientError, ValueError) as error:
                self.failed.append(repr(error))
            await asyncio.sleep(0.02)


async def all_is_there(
    reader: Person, talk: Any, talkers: list[Patient], running: list[Any], master: MasterService
) -> None:
    """Stops the talkers. Checks that every message is stored once, and that the talkers have all of them."""
    for talker in talkers:
        talker.stopping = True
    await asyncio.wait(running, timeout=15)
    assert [talker.open for talker in talkers] == [set()] * len(talkers)
    await asyncio.gather(*running)
    log = await history(reader, talk)
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    by_id = {message["id"]: message for message in log}
    for talker in talkers:
        assert sorted(talker.acked) == list(range(talker.said))
        assert talker.said > 20
        assert all(by_id[message["id"]] == message for message in talker.acked.values())
    once = [
        message["clientMessageId"]
        for message in log
        if message["clientMessageId"].startswith("rest-")
    ]
    assert once == [f"rest-{n}" for n in range(master.said)]
    assert master.said > 20
    await all_heard(talkers, log)


async def heard_all_while_connected(browser: Browser, log: list[Any]) -> None:
    """Checks that the browser received everything while connected, from any node, in order, each once."""
    last = log[-1]
    await when(lambda: ("message:new", last) in browser.heard[-50:])
    connections: list[list[Any]] = []
    for name, told in browser.heard:
        # Events in the same poll response as the end of a connection are delivered after the reconnect.
        if name == "client:connect":
            connections.append([])
        elif name == "message:new":
            connections[-1].append(told)
    by_seq = {message["seq"]: message for message in log}
    for told in connections:
        assert len(told) > 0
        assert_no_gap(told)
        assert [by_seq[message["seq"]] for message in told] == told
    assert connections[-1][-1] == last
