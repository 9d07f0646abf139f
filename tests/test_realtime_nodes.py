"""RealtimeServer on several nodes with SpreadClients: to an application they are one server."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
import socketio

from chatserver.realtime import RealtimeServer, SpreadClients
from chatserver.realtime.bus import BadAddress

from .echo import realtime, serving
from .echo_nodes import EchoNode
from .raw import when
from .redises import RedisServer
from .test_realtime_server import GUEST, Guest

PREFIX = "echo:"
LINGER_S = 0.3
CALLBACK_S = 1.0


class Client(Guest):
    """Connected to one of the nodes, and has it do things."""

    id: str

    @classmethod
    async def at(cls, node: EchoNode, *namespaces: str) -> Client:
        one = cls()
        one.on("question", lambda *question: (*question, "and me"))
        one.on("binary question", lambda data: {"data": data + b"\0"})
        one.on("silent question", one.is_silent)
        for namespace in namespaces:
            one.on("*", lambda *event: one.heard.put_nowait(event), namespace=namespace)
        await one.connect(
            node.url, transports=["websocket"], namespaces=["/", *namespaces], wait_timeout=5
        )
        one.id = str(one.get_sid())
        return one

    async def is_silent(self) -> None:
        await asyncio.sleep(3600)

    async def do(self, what: str, **options: Any) -> Any:
        return await self.call("do", (what, options), timeout=10)

    async def told(self) -> dict[str, Any]:
        return dict(await self.call("told", timeout=10))

    async def nothing_more(self) -> None:
        """What was said to it before this is heard before the answer."""
        await self.told()
        assert self.heard.empty(), self.heard.get_nowait()


Nodes = list[EchoNode]
Starting = Callable[[str], Awaitable[EchoNode]]


@pytest_asyncio.fixture
async def starting() -> AsyncIterator[Starting]:
    started: list[EchoNode] = []

    async def start(url: str) -> EchoNode:
        one = EchoNode(url, PREFIX, LINGER_S, CALLBACK_S)
        started.append(one)
        await one.start()
        return one

    yield start
    complaints = await asyncio.gather(*[one.stop() for one in started])
    assert [one for one in complaints if "Traceback" in one] == []


@pytest_asyncio.fixture
async def three(own_redis: RedisServer, starting: Starting) -> Nodes:
    return list(await asyncio.gather(*[starting(own_redis.url) for _ in range(3)]))


@pytest_asyncio.fixture
async def guests(three: Nodes) -> AsyncIterator[list[Client]]:
    """Two clients on each node: of the first, the first; then of the second, the first; and so on."""
    clients = [await Client.at(node) for node in three * 2]
    yield clients
    await asyncio.gather(*[one.disconnect() for one in clients])


async def until(true: Callable[[], Awaitable[bool]], within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not await true():  # noqa: ASYNC110  no event tells of it
            await asyncio.sleep(0.02)


async def test_a_room_has_members_on_three_nodes(guests: list[Client]) -> None:
    ann, ben, cat, dan, eve, fay = guests
    for one in (ann, ben, cat, dan):
        await one.do("enter_room", sid=one.id, room="lobby")
    data = [{"name": "x"}, 1]
    await ann.do("emit", event="news", data=data, room="lobby", skip_sid=[dan.id, cat.id])
    for one in (ann, ben):
        assert await one.hears() == ("news", data)
    await eve.do("emit", event="from outside", room="lobby")
    for one in (ann, ben, cat, dan):
        assert await one.hears() == ("from outside",)
    await fay.do("emit", event="file", data=b"\1\2\n", room="lobby", skip_sid=ann.id)
    await fay.do("emit", event="file", data={"a": b"", "b": [b"\3"]}, room="lobby")
    for one in (ben, cat, dan):
        assert await one.hears() == ("file", b"\1\2\n")
    for one in (ann, ben, cat, dan):
        assert await one.hears() == ("file", {"a": b"", "b": [b"\3"]})
    await dan.do("emit", event="for all")
    for one in guests:
        assert await one.hears() == ("for all",)
    for one in guests:
        await one.nothing_more()


async def test_several_rooms_at_once_are_told_each_member_once(guests: list[Client]) -> None:
    ann, ben, cat, dan, eve, fay = guests
    for one in (ann, ben, dan):
        await one.do("enter_room", sid=one.id, room="tea")
    for one in (ben, cat, dan):
        await one.do("enter_room", sid=one.id, room="coffee")
    await eve.do("enter_room", sid=eve.id, room=7)
    for number in range(20):
        for one in (ann, fay):
            data = [one.id, number]
            await one.do("emit", event="cups", data=data, room=["tea", "coffee", 7, eve.id])
    for one in (ann, ben, cat, dan, eve):
        heard = [await one.hears() for _ in range(40)]
        for speaker in (ann, fay):
            theirs = [number for _, (sid, number) in heard if sid == speaker.id]
            assert theirs == list(range(20))
    for one in guests:
        await one.nothing_more()


async def test_namespaces_are_apart(three: Nodes) -> None:
    ann, ben = [await Client.at(node, "/custom") for node in three[:2]]
    for namespace in ("/", "/custom"):
        sid = str(ann.get_sid(namespace))
        await ann.call("do", ("enter_room", {"sid": sid, "room": "lobby"}), namespace)
    await ben.call("do", ("emit", {"event": "custom", "room": "lobby"}), "/custom")
    await ben.do("emit", event="main", room="lobby")
    await ben.call("do", ("emit", {"event": "all of custom"}), "/custom")
    assert [await ann.hears() for _ in range(3)] == [("custom",), ("main",), ("all of custom",)]
    assert await ben.hears() == ("all of custom",)
    await ann.disconnect()
    await ben.disconnect()


async def test_a_node_without_a_member_hears_nothing_of_a_room(
    own_redis: RedisServer, guests: list[Client]
) -> None:
    ann, ben, cat, *_ = guests
    channel = f'{PREFIX}["/","lobby"]'

    async def hear_it(nodes: int) -> bool:
        return await own_redis.receivers(channel) == nodes

    assert await hear_it(0)
    await ann.do("enter_room", sid=ann.id, room="lobby")
    assert await hear_it(1), "when it returned"
    await ben.do("enter_room", sid=ben.id, room="lobby")
    assert await hear_it(2)
    before = (await cat.told())["heard"]
    await ann.call("burst", ("lobby", 200), timeout=10)
    assert [await ben.hears() for _ in range(200)] == [("number", ann.id, n) for n in range(200)]
    assert (await cat.told())["heard"] == before

    # The last one out; and who is back within the linger is heard all the time.
    await ben.do("leave_room", sid=ben.id, room="lobby")
    assert await hear_it(2)
    await ben.do("enter_room", sid=ben.id, room="lobby")
    await asyncio.sleep(LINGER_S * 2)
    assert await hear_it(2)
    await ben.disconnect()
    await until(lambda: hear_it(1))
    await ann.do("leave_room", sid=ann.id, room="lobby")
    await until(lambda: hear_it(0))


async def test_one_node_is_heard_in_the_order_in_which_it_spoke(guests: list[Client]) -> None:
    ann, ben, cat, *_ = guests
    for one in (ann, ben, cat):
        await one.do("enter_room", sid=one.id, room="lobby")
    await asyncio.gather(*[one.call("burst", ("lobby", 500), timeout=20) for one in guests[3:]])
    for one in (ann, ben, cat):
        heard = [await one.hears() for _ in range(1500)]
        for speaker in guests[3:]:
            theirs = [number for _, sid, number in heard if sid == speaker.id]
            assert theirs == list(range(500))


async def test_a_client_elsewhere_is_spoken_to_and_answers(guests: list[Client]) -> None:
    ann, ben, cat, dan, *_ = guests
    await ann.do("emit", event="psst", data=["a", 1], to=ben.id)
    assert await ben.hears() == ("psst", ["a", 1])
    question = {"event": "question", "data": [1, {"a": "ü"}], "to": ben.id}
    assert await ann.do("call", **question) == ([1, {"a": "ü"}], "and me")
    assert await ann.do("call", event="binary question", data=b"\1", to=cat.id) == {"data": b"\1\0"}
    assert await dan.do("call", event="question", data=2, to=ann.id) == (2, "and me"), "as ever"
    # Many at once, of one who is asked by several nodes.
    asked = [
        one.do("call", event="question", data=[one.id, n], to=cat.id)
        for n in range(50)
        for one in (ann, ben, cat)
    ]
    answers = await asyncio.gather(*asked)
    assert answers == [([one.id, n], "and me") for n in range(50) for one in (ann, ben, cat)]

    late = await ann.do("call", event="silent question", to=ben.id, timeout=0.3)
    assert late == "TimeoutError()"
    nobody = await ann.do("call", event="question", to=f"{'0' * 16}.{'x' * 20}", timeout=0.3)
    assert nobody == "TimeoutError()"
    for one in guests:
        await one.nothing_more()


async def test_who_asks_a_room_has_every_answer_that_comes_in_time(guests: list[Client]) -> None:
    ann, ben, cat, dan, *_ = guests
    for one in (ann, ben, cat):
        await one.do("enter_room", sid=one.id, room="lobby")

    async def late() -> str:
        await asyncio.sleep(CALLBACK_S * 1.5)
        return "late"

    for one, name in ((ann, "ann"), (cat, "cat")):
        one.on("who?", lambda name=name: name)
    ben.on("who?", late)
    await dan.call("ask", {"event": "who?", "room": "lobby"})
    assert sorted([await dan.hears(), await dan.hears()]) == [("answer", "ann"), ("answer", "cat")]
    await asyncio.sleep(CALLBACK_S * 2)
    await dan.nothing_more()


async def test_clients_elsewhere_are_put_into_rooms_and_out(guests: list[Client]) -> None:
    ann, ben, cat, *_ = guests
    for one in (ann, ben, cat):
        await ann.do("enter_room", sid=one.id, room="lobby")
    # At once: when it returned they were in, and heard.
    await ann.do("emit", event="welcome", room="lobby")
    for one in (ann, ben, cat):
        assert await one.hears() == ("welcome",)
    await cat.do("leave_room", sid=ben.id, room="lobby")
    await ann.do("emit", event="without ben", room="lobby")
    for one in (ann, cat):
        assert await one.hears() == ("without ben",)
    async with asyncio.timeout(0.5):
        await ben.do("close_room", room="lobby")
    await ann.do("emit", event="for nobody", room="lobby")
    await ann.do("emit", event="for all")
    for one in guests:
        assert await one.hears() == ("for all",)
    for one in guests:
        await one.nothing_more()
    assert "cannot enter a sid room" in await ann.do("enter_room", sid=ann.id, room=ben.id)
    assert "cannot enter a sid room" in await ann.do("enter_room", sid=ben.id, room=cat.id)
    assert "cannot close a sid room" in await ann.do("close_room", room=ben.id)
    assert "A room is named by" in await ann.do("enter_room", sid=ann.id, room=1.5)
    gone = f"{ben.id[:16]}.{'x' * 20}"
    assert await ann.do("enter_room", sid=gone, room="lobby") is None


async def test_a_client_elsewhere_is_disconnected(guests: list[Client]) -> None:
    ann, ben, _, _, eve, _ = guests
    await ann.do("emit", event="go", to=ben.id)
    await ann.do("disconnect", sid=ben.id)
    assert await ben.hears() == ("go",)
    await asyncio.wait_for(ben.wait(), 2)
    gone = (await eve.told())["gone"]
    assert [one.partition(" ")[2] for one in gone] == ["server disconnect"]
    assert (await ann.told())["gone"] == []
    await ann.do("disconnect", sid=ben.id)


async def are_joined(guests: list[Client], up: bool) -> bool:
    return all([(await one.told())["up"] is up for one in guests])


async def test_nobody_waits_for_a_redis_that_is_away_and_all_is_well_when_it_is_back(
    own_redis: RedisServer, guests: list[Client]
) -> None:
    ann, ben, cat, dan, eve, _ = guests
    for one in (ann, ben, dan):
        await one.do("enter_room", sid=one.id, room="lobby")
    for is_frozen in (True, False):
        if is_frozen:
            own_redis.signal(signal.SIGSTOP)
        else:
            await own_redis.kill()
        async with asyncio.timeout(0.5):
            await ann.call("burst", ("lobby", 10))
        heard = [("number", ann.id, n) for n in range(10)]
        for one in (ann, dan):
            assert [await one.hears() for _ in range(10)] == heard, "who is here hears it"
        await until(partial(are_joined, guests, False))
        before = [await one.told() for one in guests]
        async with asyncio.timeout(0.5):
            await ann.do("emit", event="lost", room="lobby")
            await eve.do("enter_room", sid=eve.id, room="meanwhile")
            await ann.do("enter_room", sid=ben.id, room="not")
            await ann.do("disconnect", sid=ben.id)
            await ann.do("close_room", room="not")
        for one in (ann, dan):
            assert await one.hears() == ("lost",)
        if is_frozen:
            own_redis.signal(signal.SIGCONT)
        else:
            await own_redis.start()
        await until(partial(are_joined, guests, True))
        for one, then in zip(guests, before, strict=True):
            told = await one.told()
            assert told["missed"] > then["missed"], "it says that something may be lost"
        assert (await ann.told())["dropped"] > before[0]["dropped"]

        await cat.do("emit", event="again", room="lobby")
        await cat.do("emit", event="again", room="meanwhile")
        await cat.do("emit", event="not", room="not")
        for one in (ann, dan, eve):
            assert await one.hears() == ("again",)
        # What was on its way when Redis stopped comes or not.
        while (event := await ben.hears()) in heard:
            heard.remove(event)
        assert event == ("again",)
        for one in guests:
            await one.nothing_more()
    assert await ann.do("call", event="question", data=1, to=ben.id) == (1, "and me")


async def test_a_node_that_dies_or_comes_takes_nothing_from_the_others(
    own_redis: RedisServer, three: Nodes, starting: Starting
) -> None:
    ann, ben, cat = [await Client.at(node) for node in three]
    for one in (ann, ben, cat):
        await one.do("enter_room", sid=one.id, room="lobby")
    three[1].process.kill()
    await asyncio.wait_for(ben.wait(), 5)
    await ann.do("emit", event="two of us", room="lobby")
    await ann.do("enter_room", sid=ben.id, room="nowhere")
    assert await cat.hears() == ("two of us",)
    dan = await Client.at(await starting(own_redis.url))
    await cat.do("enter_room", sid=dan.id, room="lobby")
    await cat.do("emit", event="three again", room="lobby")
    for one, events in ((ann, 2), (cat, 1), (dan, 1)):
        assert [await one.hears() for _ in range(events)][-1] == ("three again",)
        await one.disconnect()


async def test_the_javascript_client_has_all_of_the_protocol_on_a_node_of_several(
    redis_url: str,
) -> None:
    """What tests/echo.py does, with a node beside it; and a process without clients that speaks."""
    async with AsyncExitStack() as stack:
        ones = [realtime(client_manager=SpreadClients(redis_url, prefix="js:")) for _ in range(2)]
        urls = [await stack.enter_async_context(serving(one)) for one in ones]
        guest = await asyncio.create_subprocess_exec(
            *("node", str(GUEST), urls[0].removesuffix("/socket.io/"), "polling", "websocket"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(guest.communicate(), 20)
        seen = json.loads(said)
        assert (seen["inOrder"], seen["acked"], seen["still"]) == (True, [4, 5, 6], "still here")
        assert seen["deep"] == [{"file": [1, 2, 3]}, [[]]]

        ann = Guest()
        ann.on("question", lambda question: (question, b"\0"))
        await ann.connect(urls[1].removesuffix("/socket.io/"), transports=["websocket"])
        sid = str(ann.get_sid())
        speaker = SpreadClients(redis_url, prefix="js:")
        await speaker.start()
        answers: asyncio.Queue[Any] = asyncio.Queue()
        await speaker.enter_room(sid, "/", "lobby")
        await speaker.emit("news", b"\1", room="lobby")
        await speaker.emit("question", 1, to=sid, callback=lambda *data: answers.put_nowait(data))
        assert await ann.hears() == ("auth", {})
        assert await ann.hears() == ("news", b"\1")
        assert await asyncio.wait_for(answers.get(), 2) == (1, b"\0")
        await speaker.disconnect(sid, "/")
        await asyncio.wait_for(ann.wait(), 2)
        await speaker.close()


async def test_nobody_is_in_before_the_node_is_heard(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = SpreadClients(redis_url, prefix="before:")
    sio = RealtimeServer(client_manager=clients)
    sio.on("connect", lambda sid, environ: None)
    async with serving(sio) as url:
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(clients.bus, "subscribe", lambda channel: confirmed)
        ann = socketio.AsyncSimpleClient()
        coming = asyncio.create_task(ann.connect(url, transports=["websocket"]))
        await when(lambda: clients.rooms)
        await asyncio.sleep(0.2)
        assert not coming.done()
        confirmed.set_result(True)
        await asyncio.wait_for(coming, 0.5)
        confirmed = asyncio.get_running_loop().create_future()
        entering = asyncio.create_task(sio.enter_room(ann.sid, "lobby"))
        await asyncio.sleep(0.2)
        assert not entering.done()
        confirmed.set_result(True)
        await asyncio.wait_for(entering, 0.5)
        await ann.disconnect()


async def test_who_goes_while_its_node_is_not_yet_heard_does_not_stay(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = SpreadClients(redis_url, prefix="goes:")
    sio = RealtimeServer(client_manager=clients)
    sio.on("connect", lambda sid, environ: None)
    async with serving(sio) as url:
        never: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(clients.bus, "subscribe", lambda channel: never)
        ann = socketio.AsyncSimpleClient()
        coming = asyncio.create_task(ann.connect(url, transports=["websocket"]))
        await when(lambda: clients.rooms)
        coming.cancel()
        (session,) = sio.eio.sockets.values()
        await session.close(wait=False, abort=True)
        never.set_result(True)
        await asyncio.sleep(0.05)
        assert (clients.rooms, clients.pending_connect, sio.environ) == ({}, {}, {})
        await asyncio.wait([coming])


def test_an_address_that_is_none_is_refused_where_it_is_given() -> None:
    with pytest.raises(BadAddress):
        SpreadClients("http://127.0.0.1")
    sio = RealtimeServer(client_manager=SpreadClients("redis://127.0.0.1"))
    with pytest.raises(RuntimeError, match="Attach the server"):
        sio.manager.initialize()
