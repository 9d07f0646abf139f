"""The project's own JavaScript client while its nodes are killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.chatters import Chatter, Opener, seqs, texts
from tests.support.people import People, Person
from tests.support.people_on_nodes import Spread, spread
from tests.support.servers import ChatServer
from tests.support.tampering_proxy import Meddler
from tests.support.through_balancer import Balancer, balancer


def _on_record(seen: Any) -> int:
    return sum(seq is not None for seq in seqs(seen))


@pytest_asyncio.fixture
async def own_nodes(
    mongo_url: str, redis_url: str, worker: str, tmp_path: Path
) -> AsyncIterator[Spread]:
    """Nodes that a test may kill."""
    async with spread(mongo_url, redis_url, f"client-{worker}", tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def front(own_nodes: Spread) -> AsyncIterator[Balancer]:
    async with balancer(own_nodes.servers) as front:
        yield front


async def through(person: Person, front: Balancer, group: Any, **options: Any) -> Chatter:
    chatter = Chatter(person, lambda: person.token)
    await chatter.start({"url": front.sockets, **options})
    await chatter.do("watch", group)
    await chatter.do("connect")
    await chatter.do("open", group)
    return chatter


async def test_no_message_is_lost_or_doubled_while_every_node_is_killed(
    own_nodes: Spread, front: Balancer, people_of: Any
) -> None:
    everybody: People = people_of(own_nodes.servers[0])
    alice, bob, carol = everybody("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    chatters = await asyncio.gather(
        *[through(person, front, group) for person in (alice, bob, carol)]
    )
    lines = {
        chatter.person.id: [f"{chatter.person.id} {n}" for n in range(450)] for chatter in chatters
    }

    sends: list[asyncio.Future[Any]] = []
    for turn, server in enumerate(own_nodes.servers):
        for chatter in chatters:
            part = lines[chatter.person.id][turn * 150 : turn * 150 + 150]
            sends.append(chatter.begin("sendAll", group, {"texts": part}))
        # All clients are in the middle of sending and receiving.
        enough = turn * 450 + 30
        await chatters[turn].sees(group, lambda seen, enough=enough: _on_record(seen) > enough)
        await server.kill()
        assert not all(send.done() for send in sends[-3:])
        await asyncio.sleep(0.2)
        await server.start()
    async with asyncio.timeout(60):
        assert await asyncio.gather(*sends) == [150] * 9

    history = await _history(alice, group)
    assert [message["seq"] for message in history] == list(range(1, 1351))
    for person, said in lines.items():
        assert [message["content"] for message in history if message["senderId"] == person] == said
    for chatter in chatters:
        seen = await chatter.sees(
            group, lambda seen: len(seen["messages"]) == 1350 and seen["status"] == "live"
        )
        assert seqs(seen) == list(range(1, 1351))
        assert texts(seen) == [message["content"] for message in history]
        assert await chatter.do("wrong", group) == []
        assert sum(state["status"] == "offline" for state in chatter.states) >= 1
        assert chatter.told == []
    await asyncio.gather(*[chatter.close() for chatter in chatters])


async def test_catch_up_after_a_cut_line_includes_changes_of_every_kind(
    own_nodes: Spread, front: Balancer, people_of: Any
) -> None:
    alice, bob = people_of(own_nodes.servers[0])("alice", "bob")
    talk = await alice.direct(bob)
    desk = await through(alice, front, talk)
    phone = await bob.connect()
    sent = [await phone.say(talk, f"line {n}") for n in range(20)]
    await desk.sees(talk, lambda snapshot: len(snapshot["messages"]) == 20)
    for turn in range(10):
        front.cut()
        of = [{"messageId": message["id"]} for message in sent[turn * 2 : turn * 2 + 2]]
        await phone.do("message:edit", {**of[0], "content": f"edited in turn {turn}"})
        await phone.do("reaction:add", {**of[0], "emoji": "👍"})
        await phone.do("message:delete", of[1])
        await phone.say(talk, f"new in turn {turn}")
    history = await _history(alice, talk)
    assert len(history) == 30
    keys = ("id", "seq", "content", "reactions", "isEdited", "isDeleted", "updatedAt", "deletedAt")

    def same(seen: Any) -> bool:
        listed = [[message[key] for key in keys] for message in seen["messages"]]
        return listed == [[message[key] for key in keys] for message in history]

    await desk.sees(talk, same)
    assert await desk.do("wrong", talk) == []
    await desk.close()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_client_reconnects_when_its_server_returns(
    start: Any, people_of: Any, transport: str
) -> None:
    server: ChatServer = await start()
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = Chatter(alice, lambda: alice.token)
    await desk.start({"url": server.sockets, "socket": {"transports": [transport]}})
    await desk.do("connect")
    await desk.do("open", talk)
    await desk.says(talk, "Before")
    await desk.sees(talk, lambda snapshot: seqs(snapshot) == [1])
    await server.kill()
    await desk.sees(
        talk, lambda snapshot: snapshot["status"] == "stale" and snapshot["state"] == "offline"
    )
    assert desk.states[-1]["reason"]["code"] == "OFFLINE"
    assert desk.states[-1]["retryAt"]
    await desk.says(talk, "While it was away")
    assert seqs(await desk.look(talk)) == [1, None]
    await server.start()
    seen = await desk.sees(talk, lambda snapshot: seqs(snapshot) == [1, 2])
    assert texts(seen) == ["Before", "While it was away"]
    await desk.close()


FAULTS: dict[str, Callable[[list[str]], list[str]]] = {
    "lost": lambda two: two[1:],
    "swapped": lambda two: two[::-1],
    "doubled": lambda two: two * 2,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_faults_that_no_server_may_have_leave_the_list_correct(
    people: People, chatter: Opener, fault: Callable[[list[str]], list[str]]
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    device = await alice.connect()
    async with Meddler(bob.server.ws_port, fault) as between:
        desk = await chatter(bob, url=f"http://127.0.0.1:{between.port}")
        await desk.do("watch", talk)
        await desk.do("open", talk)
        for n in range(3):
            await device.say(talk, f"line {n}")
        seen = await desk.sees(talk, lambda snapshot: len(snapshot["messages"]) == 3)
        assert texts(seen) == ["line 0", "line 1", "line 2"]
        await desk.sees(talk, lambda snapshot: snapshot["status"] == "live")
        assert await desk.do("wrong", talk) == []
        # The client kept the first connection, which is the one with the faults.
        assert [state["status"] for state in desk.states] == ["connecting", "online"]
        await desk.sees(talk, lambda snapshot: snapshot["conversations"][0]["unreadCount"] == 3)


async def _history(person: Person, group: Any) -> list[Any]:
    path, found = f"/conversations/{group['id']}/messages", list[Any]()
    while True:
        page = await person.ask("GET", f"{path}?limit=200&after={len(found)}")
        found += page["items"]
        if not page["hasMore"]:
            return found
