"""Two nodes behind the balancers of config/: each client stays with its node, and none is lost when one goes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from chatserver.settings import Settings

from .bare import Polling
from .browsers import Browser
from .conftest import Starter
from .people import People, Person, Refused
from .proxies import PROXIES, Proxy, proxy
from .raw import Wire, history, when
from .servers import INTERNAL_SECRET, ROOT, ChatServer
from .test_js_client import CUT, TRANSPORTS
from .test_rolling_restart import RESTARTS, Patient, all_heard, assert_no_gap

Balanced = tuple[ChatServer, ChatServer, Proxy, People]
DRAIN_S = 10
"""The default: its notice is what the balancers' checks have to fit into."""


@pytest_asyncio.fixture(params=PROXIES)
async def balanced(
    request: pytest.FixtureRequest, start: Starter, tmp_path: Any, redis_url: str
) -> AsyncIterator[Balanced]:
    """Two nodes, a balancer in front, and people who know of the balancer alone."""
    common = {
        "REDIS_URL": redis_url,
        "DRAIN_S": f"{DRAIN_S}",
        "SOCKETS_PER_USER": "0",
        "PRESENCE_GRACE_S": "60",
    }
    a, b = await start(NODE_NAME="a", **common), await start(NODE_NAME="b", **common)
    async with (
        proxy(request.param, tmp_path, (a, b)) as one,
        aiohttp.ClientSession() as session,
    ):
        people = People(one, session)
        yield a, b, one, people
        await people.go_home()


def node_of(browser: Browser) -> str:
    sessions = [payload for name, payload in browser.heard if name == "client:session"]
    return str(sessions[-1]).partition(".")[0]


def node_of_wire(wire: Wire) -> str:
    return wire.frames[0].partition('"sid":"')[2].partition(".")[0]


async def browser_on(node: str, person: Person, transports: list[str]) -> Browser:
    """One that the balancer happens to put there."""
    wires = []
    for _ in range(40):
        browser = await Browser.open(person, *transports)
        await browser.hears("connected")
        if node_of(browser) == node:
            await asyncio.gather(*[one.close() for one in wires])
            return browser
        await browser.close()
        # Whose turn it is next is the balancer's secret; by chance it is the right one's soon.
        wires += [await Wire.connect(person) for _ in range(random.randrange(3))]
    raise AssertionError(f"nobody comes to {node}")


async def upgraded(browser: Browser) -> None:
    async with asyncio.timeout(5):
        while ("client:upgrade", "websocket") not in browser.heard:
            await browser.caught_up()


async def sockets(server: ChatServer, session: aiohttp.ClientSession) -> int:
    async with session.get(f"{server.rest}/metrics") as answer:
        text = await answer.text()
    (line,) = [line for line in text.splitlines() if line.startswith("chat_sockets ")]
    return int(float(line.split()[1]))


class Newcomers:
    """Somebody new comes all the time, with one transport and the other; who is refused is kept."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.came: list[tuple[float, str]] = []
        """When, and to which node."""
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
            for one in (self._polling, self._websocket):
                try:
                    await one(session, url)
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
    """It posts all the time, and repeats what had no answer; failures are kept."""

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


async def test_every_transport_gets_through_and_both_nodes_have_clients(balanced: Balanced) -> None:
    *_, proxy, people = balanced
    everybody = people(*(f"person{n}" for n in range(6)))
    talk = await everybody[0].group(*everybody[1:])
    for transports in TRANSPORTS.values():
        ours = await asyncio.gather(
            *[
                browser_on(node, one, transports)
                for node, one in zip("ababab", everybody, strict=True)
            ]
        )
        if len(transports) == 2:
            await asyncio.gather(*[upgraded(browser) for browser in ours])
        for browser in ours:
            sent = await browser.say(talk, "Through to my node, and on to the other")
            for one in ours:
                assert await one.hears("message:new") == sent
        await asyncio.gather(*[browser.close() for browser in ours])
    assert len(await history(everybody[1], talk)) == 18

    wires = [await Wire.connect(people("guest")) for _ in range(30)]
    nodes = [node_of_wire(wire) for wire in wires]
    assert sorted(nodes) == ["a"] * 15 + ["b"] * 15, "the least connections"
    await asyncio.gather(*[wire.close() for wire in wires])
    await asyncio.sleep(0.2)
    assert "/socket.io/" in proxy.log
    assert "sid=" not in proxy.log, "with that anybody could speak for them"


async def test_a_client_that_goes_away_while_it_polls_is_missed_at_once(balanced: Balanced) -> None:
    *nodes, _, people = balanced
    polling = [await Polling.connect(people("guest")) for _ in range(6)]
    polls = [asyncio.create_task(one.get()) for one in polling]
    await asyncio.sleep(0.3)
    assert sum([await sockets(node, people.session) for node in nodes]) == 6
    for poll in polls:
        poll.cancel()
    await asyncio.wait(polls)
    async with asyncio.timeout(3):
        while any([await sockets(node, people.session) for node in nodes]):  # noqa: ASYNC110  no event tells of it
            await asyncio.sleep(0.05)


async def test_a_drained_node_is_left_without_a_failure_and_filled_again(
    balanced: Balanced,
) -> None:
    a, _, _, people = balanced
    names = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")
    alice, bob, carol, dave, erin, *idle = people(*names)
    talk = await alice.group(bob, carol, dave, erin)
    talkers = [Patient(one, talk, 2) for one in (alice, bob, carol, dave)]
    running = [asyncio.create_task(one.run()) for one in talkers]
    browsers = [
        await browser_on(node, erin, transports)
        for transports in TRANSPORTS.values()
        for node in "ab"
    ]
    quiet = [await Wire.connect(one) for one in idle for _ in range(10)]
    newcomers, master = Newcomers(people), MasterService(alice, talk)
    await asyncio.sleep(0.5)
    assert {node_of_wire(one.wire) for one in talkers} == {"a", "b"}
    here = [browser for browser in browsers if node_of(browser) == "a"]

    began = time.monotonic()
    a.signal(signal.SIGTERM)
    assert await asyncio.wait_for(a.process.wait(), DRAIN_S + 5) == 0
    ended = time.monotonic()
    for browser in here:
        assert await browser.hears("client:disconnect") in CUT
        await browser.hears("connected", within=10)
    await asyncio.sleep(1)
    assert {node_of(browser) for browser in browsers} == {"b"}
    assert {node for when, node in newcomers.came if when > began + 4} == {"b"}
    codes = [await wire.ended() for wire in quiet if wire.gone.is_set()]
    assert codes == [RESTARTS] * len(codes), "sent away, not cut off"
    assert 5 <= len(codes) <= 15

    await a.start()
    again = time.monotonic()
    while newcomers.came[-1][1] != "a":
        assert time.monotonic() - again < 10, "a node that is back gets clients again"
        await asyncio.sleep(0.1)
    await newcomers.end()
    await master.end()
    assert ended - began > DRAIN_S * 0.3
    assert newcomers.refused == []
    assert master.failed == []
    assert len(newcomers.came) > 100
    await _all_is_there(alice, talk, talkers, running, master)
    for talker in talkers:
        assert set(talker.codes) <= {RESTARTS}, "sent away, not cut off"
    for browser in here:
        await browser.say(talk, "Here again")
    log = await history(alice, talk)
    for browser in browsers:
        assert await everything_since_the_start(browser, talk) == log
        await heard_all_while_connected(browser, log)
        cuts = [name for name, _ in browser.heard if name == "client:disconnect"]
        assert len(cuts) == (browser in here), "who was on the other node was left alone"


async def test_a_node_that_is_killed_is_left_by_all(balanced: Balanced) -> None:
    a, _, _, people = balanced
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    talkers = [Patient(one, talk, 2) for one in (alice, bob)]
    running = [asyncio.create_task(one.run()) for one in talkers]
    browsers = [await browser_on("a", carol, one) for one in TRANSPORTS.values()]
    elsewhere = await browser_on("b", carol, ["websocket"])
    newcomers, master = Newcomers(people), MasterService(alice, talk)
    await asyncio.sleep(0.5)

    killed = time.monotonic()
    await a.kill()
    for browser in browsers:
        assert await browser.hears("client:disconnect") in CUT
        await browser.hears("connected", within=10)
        assert node_of(browser) == "b"
    assert time.monotonic() - killed < 5
    await when(lambda: master.said > 20 and all(one.said > 20 for one in talkers))
    await newcomers.end()
    await master.end()
    assert newcomers.refused == []
    assert len(master.failed) <= 1, "what was under way, which is repeated"
    await _all_is_there(alice, talk, talkers, running, master)
    log = await history(alice, talk)
    for browser in (*browsers, elsewhere):
        assert await everything_since_the_start(browser, talk) == log
        await heard_all_while_connected(browser, log)
    assert "client:disconnect" not in [name for name, _ in elsewhere.heard]


@pytest.mark.parametrize("balanced", ["haproxy"], indirect=True)
async def test_a_node_that_is_frozen_gets_nobody_new_for_long(balanced: Balanced) -> None:
    """HAProxy asks; nginx would have to lose somebody first."""
    a, _, _, people = balanced
    newcomers = Newcomers(people)
    await asyncio.sleep(0.5)
    assert {node for _, node in newcomers.came} == {"a", "b"}
    began = time.monotonic()
    a.signal(signal.SIGSTOP)
    await asyncio.sleep(8)
    a.signal(signal.SIGCONT)
    await newcomers.end()
    during = [(when, node) for when, node in newcomers.came if began + 0.2 < when < began + 8]
    assert {node for _, node in during} == {"b"}
    assert newcomers.refused == [], "asked elsewhere, not refused"
    waits = [after - before for (before, _), (after, _) in itertools.pairwise(during)]
    assert max(waits) < 6
    assert len([when for when, _ in during if when > began + 6]) > 20, "at full pace again"


async def everything_since_the_start(browser: Browser, talk: Any) -> list[Any]:
    """What a browser knows by syncing from nothing, as one does that was cut off before it knew anything."""
    found: list[Any] = []
    while True:
        asked = {"conversationId": talk["id"], "afterSeq": len(found), "limit": 200}
        page = await browser.do("messages:sync", asked)
        found += page["messages"]
        if not page["hasMore"]:
            return found


async def _all_is_there(
    reader: Person, talk: Any, talkers: list[Patient], running: list[Any], master: MasterService
) -> None:
    """Stop the talkers; what they and the Master Service said is there, once, and they know all of it."""
    for talker in talkers:
        talker.stopping = True
    await asyncio.wait(running, timeout=15)
    assert [one.open for one in talkers] == [set()] * len(talkers)
    await asyncio.gather(*running)
    log = await history(reader, talk)
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    by_id = {message["id"]: message for message in log}
    for talker in talkers:
        assert sorted(talker.acked) == list(range(talker.said))
        assert talker.said > 20
        assert all(by_id[one["id"]] == one for one in talker.acked.values())
    once = [one["clientMessageId"] for one in log if one["clientMessageId"].startswith("rest-")]
    assert once == [f"rest-{n}" for n in range(master.said)]
    assert master.said > 20
    await all_heard(talkers, log)


async def heard_all_while_connected(browser: Browser, log: list[Any]) -> None:
    """From each connection's beginning to its end, whatever node said it, in order, once."""
    last = log[-1]
    await when(lambda: ("message:new", last) in browser.heard[-50:], within=10)
    connections: list[list[Any]] = []
    for name, told in browser.heard:
        # What came in one answer to a poll with the end, the client hands over when it is back.
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


async def test_the_outside_sees_the_sockets_and_nothing_else(balanced: Balanced) -> None:
    _, _, one, people = balanced
    (alice,) = (people("alice"),)
    secret = {"X-Internal-Secret": INTERNAL_SECRET, "X-User-Id": alice.id}
    paths = ("/", "/health", "/ready", "/metrics", "/api/conversations", "/api/users/sync")
    for path in (*paths, "/socket.io/../metrics", "/socket.io/%2e%2e/metrics"):
        async with people.session.get(one.sockets + path, headers=secret) as answer:
            assert answer.status == 404, path
    # For the Master Service there is /api, and for anybody else not even that.
    assert (await people.master("POST", "/users/sync", {"externalUserId": alice.id}))[0] == 201
    for path in ("/health", "/ready", "/metrics", "/socket.io/?EIO=4&transport=polling"):
        async with people.session.get(one.rest + path) as answer:
            assert answer.status == 404, path
    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=elsewhere, headers=secret) as session:
        async with session.get(f"{one.rest}/api/conversations") as answer:
            assert answer.status == 403
        async with session.get(f"{one.sockets}/socket.io/?EIO=4&transport=polling") as answer:
            assert answer.status == 200


async def test_what_is_too_large_ends_at_the_balancer(balanced: Balanced) -> None:
    _, _, one, people = balanced
    alice, bob = people("alice", "bob")
    url = f"{one.sockets}/socket.io/?EIO=4&transport=polling"
    async with people.session.get(url, headers={"X-Long": "x" * 40_000}) as answer:
        assert answer.status in (400, 431, 494)
    polling = await Polling.connect(bob)
    assert (await polling.post("x" * 300_000))[0] == 413
    assert (await polling.post("42" + '["ping",{}]'))[0] == 200, "the session never heard of it"
    many = {
        "users": [{"externalUserId": f"{alice.id}-{n}", "name": "n" * 200} for n in range(1000)]
    }
    assert (await people.master("POST", "/users/sync/batch", many))[0] == 200
    async with people.session.post(f"{one.rest}/api/users/sync", data=bytes(5_000_000)) as answer:
        assert answer.status == 413


@pytest.mark.parametrize("name", PROXIES)
async def test_nodes_know_where_clients_are_whatever_they_claim(
    start: Starter, tmp_path: Any, name: str
) -> None:
    settings = {"TRUSTED_PROXIES": "127.0.0.1/32", "SOCKETS_PER_ADDRESS": "2"}
    a, b = await start(NODE_NAME="a", **settings), await start(NODE_NAME="b", **settings)
    async with proxy(name, tmp_path, (a, b)) as one, contextlib.AsyncExitStack() as open_sockets:
        opened: list[aiohttp.ClientWebSocketResponse] = []

        async def come(address: str, **headers: str) -> int:
            connector = aiohttp.TCPConnector(local_addr=(address, 0))
            session = await open_sockets.enter_async_context(
                aiohttp.ClientSession(connector=connector)
            )
            try:
                url = f"{one.sockets}/socket.io/?EIO=4&transport=websocket"
                opened.append(await session.ws_connect(url, headers=headers))
            except aiohttp.WSServerHandshakeError as error:
                return error.status
            return 101

        assert [await come("127.0.0.2") for _ in range(4)] == [101] * 4, "two on each node"
        assert await come("127.0.0.2") == 429
        assert await come("127.0.0.2", **{"X-Forwarded-For": "192.0.2.1"}) == 429
        assert await come("127.0.0.3") == 101


def test_a_balancer_leaves_those_alone_who_are_silent_as_long_as_they_may_be() -> None:
    longest = Settings().ping_interval_s + Settings().ping_timeout_s
    for name, keys in {
        "haproxy.cfg": ["timeout client", "timeout server", "timeout tunnel"],
        "nginx.conf": ["proxy_read_timeout", "proxy_send_timeout"],
    }.items():
        text = (ROOT / "config" / name).read_text()
        for key in keys:
            # The first: what follows is for requests that begin no session, and are answered at once.
            found = re.search(rf"^\s*{key} (\d+)s;?$", text, re.MULTILINE)
            assert found, key
            assert int(found[1]) > longest
