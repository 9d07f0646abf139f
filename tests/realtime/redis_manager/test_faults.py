"""RealtimeServer on several nodes, while Redis is down, and as nodes start and die."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import socketio

import chatserver.realtime
from chatserver.realtime import RealtimeServer
from chatserver.realtime.bus import BadAddress
from chatserver.realtime.redis_manager import RedisClientManager
from tests.support.echo import realtime, serving
from tests.support.echo_clients import Client, Nodes, Starting, until
from tests.support.guests import GUEST, Guest
from tests.support.raw import when
from tests.support.redises import RedisServer


async def are_joined(guests: list[Client], up: bool) -> bool:
    return all([(await guest.told())["up"] is up for guest in guests])


async def test_nothing_waits_for_a_redis_that_is_down_and_all_works_when_it_is_back(
    own_redis: RedisServer, guests: list[Client]
) -> None:
    ann, ben, cat, dan, eve, _ = guests
    for guest in (ann, ben, dan):
        await guest.do("enter_room", sid=guest.id, room="lobby")
    for is_frozen in (True, False):
        if is_frozen:
            own_redis.signal(signal.SIGSTOP)
        else:
            await own_redis.kill()
        async with asyncio.timeout(0.5):
            await ann.call("burst", ("lobby", 10))
        heard = [("number", ann.id, n) for n in range(10)]
        for guest in (ann, dan):
            assert [await guest.hears() for _ in range(10)] == heard, "clients of this node"
        await until(partial(are_joined, guests, False))
        before = [await guest.told() for guest in guests]
        async with asyncio.timeout(0.5):
            await ann.do("emit", event="lost", room="lobby")
            await eve.do("enter_room", sid=eve.id, room="meanwhile")
            await ann.do("enter_room", sid=ben.id, room="not")
            await ann.do("disconnect", sid=ben.id)
            await ann.do("close_room", room="not")
        for guest in (ann, dan):
            assert await guest.hears() == ("lost",)
        if is_frozen:
            own_redis.signal(signal.SIGCONT)
        else:
            await own_redis.start()
        await until(partial(are_joined, guests, True))
        for guest, then in zip(guests, before, strict=True):
            told = await guest.told()
            assert told["missed"] > then["missed"], "`missed` is called"
        assert (await ann.told())["dropped"] > before[0]["dropped"]

        await cat.do("emit", event="again", room="lobby")
        await cat.do("emit", event="again", room="meanwhile")
        await cat.do("emit", event="not", room="not")
        for guest in (ann, dan, eve):
            assert await guest.hears() == ("again",)
        # Events in flight when Redis stopped may or may not arrive.
        while (event := await ben.hears()) in heard:
            heard.remove(event)
        assert event == ("again",)
        for guest in guests:
            await guest.nothing_more()
    assert await ann.do("call", event="question", data=1, to=ben.id) == (1, "and me")


async def test_a_node_that_dies_or_starts_does_not_affect_the_others(
    own_redis: RedisServer, three: Nodes, starting: Starting
) -> None:
    ann, ben, cat = [await Client.at(node) for node in three]
    for guest in (ann, ben, cat):
        await guest.do("enter_room", sid=guest.id, room="lobby")
    three[1].process.kill()
    await asyncio.wait_for(ben.wait(), 5)
    await ann.do("emit", event="two of us", room="lobby")
    await ann.do("enter_room", sid=ben.id, room="nowhere")
    assert await cat.hears() == ("two of us",)
    dan = await Client.at(await starting(own_redis.url))
    await cat.do("enter_room", sid=dan.id, room="lobby")
    await cat.do("emit", event="three again", room="lobby")
    for guest, events in ((ann, 2), (cat, 1), (dan, 1)):
        assert [await guest.hears() for _ in range(events)][-1] == ("three again",)
        await guest.disconnect()


async def test_the_javascript_client_works_on_one_of_several_nodes(
    redis_url: str,
) -> None:
    """The server of tests/support/echo.py on two nodes, and a process without clients that emits."""
    async with AsyncExitStack() as stack:
        servers = [
            realtime(client_manager=RedisClientManager(redis_url, prefix="js:")) for _ in range(2)
        ]
        urls = [await stack.enter_async_context(serving(server)) for server in servers]
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
        speaker = RedisClientManager(redis_url, prefix="js:")
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


async def test_connecting_and_entering_wait_for_the_subscription(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = RedisClientManager(redis_url, prefix="before:")
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


async def test_a_client_that_disconnects_during_the_subscription_is_not_kept(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = RedisClientManager(redis_url, prefix="goes:")
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


def test_a_bad_url_is_refused_by_the_constructor() -> None:
    with pytest.raises(BadAddress):
        RedisClientManager("http://127.0.0.1")
    sio = RealtimeServer(client_manager=RedisClientManager("redis://127.0.0.1"))
    with pytest.raises(RuntimeError, match="Attach the server"):
        sio.manager.initialize()


def test_the_former_name_is_an_alias() -> None:
    assert chatserver.realtime.SpreadClients is RedisClientManager
    with pytest.raises(AttributeError):
        _ = chatserver.realtime.NoSuchName
