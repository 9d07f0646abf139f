"""A write whose answer is lost was stored all the same: everybody whom it concerns hears of it, on every node, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from tests.conftest import Starter
from tests.support.foreign_writer import take_next_offset
from tests.support.patience import PATIENCE_S, slowness
from tests.support.people import Device, People, Person, devices
from tests.support.people_on_nodes import Spread, spread
from tests.support.raw import history
from tests.support.redises import RedisServer
from tests.support.servers import ChatServer, MongoServer

NO_MAJORITY = {"code": 64, "errmsg": "stored, but the majority did not answer"}


@dataclass
class Scene:
    """Alice, Bob and Carol are in a group. Dave is not. Each is connected to the next node."""

    mongo: MongoServer
    people: list[Person]
    devices: list[Device]
    group: dict[str, Any]
    mine: dict[str, Any]
    theirs: dict[str, Any]

    async def unanswered(self, method: str, path: str, body: Any = None) -> None:
        """Alice's request is stored, but the database does not confirm it in time."""
        # A send is a lone insert. Everything else is a transaction.
        is_send = "content" in (body or {}) and method == "POST"
        command = "insert" if is_send else "commitTransaction"
        with self.mongo.failing(command, writeConcernError=NO_MAJORITY):
            refusal = await self.people[0].refused(method, path, body)
        assert refusal.code == "UNAVAILABLE", refusal.error


@dataclass
class NodesOfMongo:
    mongo: MongoServer
    nodes: Spread
    session: aiohttp.ClientSession

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[Scene]:
        everyone = People(self.nodes.servers[0], self.session, self.nodes)
        people = everyone("alice", "bob", "carol", "dave")
        group = await people[0].group(*people[1:3])
        path = f"/conversations/{group['id']}/messages"
        theirs = await people[1].ask("POST", path, {"content": "Hi"})
        # The last write is Alice's, so that her node knows the end of the log and need not try twice.
        mine = await people[0].ask("POST", path, {"content": "Hello"})
        made = await devices(*people)
        yield Scene(self.mongo, people, made, group, mine, theirs)
        await everyone.go_home()


@pytest.fixture
async def nodes_of_mongo(
    own_mongo: MongoServer, own_redis: RedisServer, tmp_path: Path
) -> AsyncIterator[NodesOfMongo]:
    # Long enough for the write itself, and no longer: each request takes this long.
    settings = {"REQUEST_TIMEOUT_S": f"{min(2 * slowness(), 8):.1f}"}
    async with (
        spread(own_mongo.url, own_redis.url, "unanswered", tmp_path, **settings) as nodes,
        aiohttp.ClientSession() as session,
    ):
        await nodes.joined(own_redis)
        yield NodesOfMongo(own_mongo, nodes, session)


def _create(scene: Scene) -> tuple[str, str, Any]:
    others = [person.id for person in scene.people[1:]]
    return "POST", "/conversations", {"type": "group", "participantIds": others}


def _direct(scene: Scene) -> tuple[str, str, Any]:
    return "POST", "/conversations/direct", {"userId": scene.people[3].id}


def _add(scene: Scene) -> tuple[str, str, Any]:
    path = f"/conversations/{scene.group['id']}/participants"
    return "POST", path, {"userIds": [scene.people[3].id]}


def _remove(scene: Scene) -> tuple[str, str, Any]:
    path = f"/conversations/{scene.group['id']}/participants/{scene.people[2].id}"
    return "DELETE", path, None


def _rename(scene: Scene) -> tuple[str, str, Any]:
    return "PATCH", f"/conversations/{scene.group['id']}", {"name": "Renamed"}


def _delete_conversation(scene: Scene) -> tuple[str, str, Any]:
    return "DELETE", f"/conversations/{scene.group['id']}", None


def _edit(scene: Scene) -> tuple[str, str, Any]:
    return "PATCH", f"/messages/{scene.mine['id']}", {"content": "Hello!"}


def _delete(scene: Scene) -> tuple[str, str, Any]:
    return "DELETE", f"/messages/{scene.mine['id']}", None


def _react(scene: Scene) -> tuple[str, str, Any]:
    return "POST", f"/messages/{scene.mine['id']}/reactions", {"emoji": "👍"}


def _send(scene: Scene) -> tuple[str, str, Any]:
    path = f"/conversations/{scene.group['id']}/messages"
    return "POST", path, {"content": "Again", "clientMessageId": "once"}


def _read(scene: Scene) -> tuple[str, str, Any]:
    return "PUT", f"/messages/{scene.theirs['id']}/read", None


CASES = [
    (_create, "conversation:new", (0, 1, 2, 3)),
    (_direct, "conversation:new", (0, 3)),
    (_add, "conversation:joined", (3,)),
    (_add, "participant:added", (0, 1, 2, 3)),
    (_remove, "conversation:removed", (2,)),
    (_rename, "conversation:updated", (0, 1, 2)),
    (_delete_conversation, "conversation:removed", (0, 1, 2)),
    (_edit, "message:updated", (0, 1, 2)),
    (_delete, "message:deleted", (0, 1, 2)),
    (_react, "reaction:added", (0, 1, 2)),
    (_send, "message:new", (0, 1, 2)),
    (_read, "message:read", (0, 1, 2)),
]
REPEATED = {_create: (0, 1, 2, 3), _rename: (0, 1, 2)}
"""The hearers of a repeat. A group has no key, so its repeat is another group; the same name again is a change.
All other repeats change nothing."""


async def test_what_was_stored_is_announced_once(nodes_of_mongo: NodesOfMongo) -> None:
    for request_of, event, hearers in CASES:
        async with nodes_of_mongo.scene() as scene:
            method, path, body = request_of(scene)
            await scene.unanswered(method, path, body)
            heard = [await scene.devices[n].hears(event) for n in hearers]
            assert all(payload == heard[0] for payload in heard), heard
            status = 503
            async with asyncio.timeout(PATIENCE_S):
                while status == 503:
                    status, _ = await scene.people[0].request(method, path, body)
            assert status < 300 or status in (404, 409), (request_of, status)
            counts = [len(await device.all_heard(event)) for device in scene.devices]
            again = REPEATED.get(request_of, ())
            assert counts == [(n in hearers) + (n in again) for n in range(4)], request_of


async def test_later_messages_of_a_conversation_that_was_created_so_arrive(
    nodes_of_mongo: NodesOfMongo,
) -> None:
    async with nodes_of_mongo.scene() as scene:
        await scene.unanswered(*_direct(scene))
        made = await scene.devices[3].hears("conversation:new")
        alice, dave = scene.people[0], scene.people[3]
        again = await alice.direct(dave)
        assert again["id"] == made["id"]
        sent = await dave.ask("POST", f"/conversations/{made['id']}/messages", {"content": "Hello"})
        for device in (scene.devices[0], scene.devices[3]):
            heard = await device.hears(
                "message:new", lambda new: new["conversationId"] == made["id"]
            )
            assert heard["id"] == sent["id"]


async def test_a_send_that_another_process_forestalls_is_tried_again(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Nothing of the lost race is stored, so it does not matter that the majority did not answer then."""
    server = await start(own_mongo.url)
    alice, *friends = people_of(server)("alice", "bob", "carol", "dave")
    talks = [await alice.direct(friend) for friend in friends]
    desk = await alice.connect()
    for talk in talks:
        await desk.say(talk, "first")
    async with pymongo.AsyncMongoClient[Any](own_mongo.url) as client:
        for first in range(len(talks)):
            # Alone in its batch, or between others.
            several = talks[first:]
            await take_next_offset(
                client[server.env["MONGO_DATABASE"]].log, several[len(several) // 2]
            )
            with own_mongo.failing("insert", times=1, writeConcernError=NO_MAJORITY):
                sent = await asyncio.gather(*[desk.say(talk, f"{first}") for talk in several])
            assert [message["content"] for message in sent] == [f"{first}"] * len(several)
    for n, talk in enumerate(talks):
        said = await history(alice, talk)
        assert [message["content"] for message in said] == ["first", *map(str, range(n + 1))]
