"""Background jobs end, each effect once, whatever happens to the nodes and the database."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from chatserver.mongo import Mongo
from tests.support import large
from tests.support.command import run
from tests.support.exposition import samples, scrape
from tests.support.patience import PATIENCE_S, until
from tests.support.people import Device, People, Person
from tests.support.people_on_nodes import Spread, spread
from tests.support.redises import RedisServer
from tests.support.servers import ChatServer, MongoServer

CONVERSATIONS = 100
MEMBERS = 6_000
STEP = 32
"""Conversations that a deleted user leaves in one step."""
DATABASE = "jobs"
PARTICIPANTS = f"{DATABASE}.participants"


def env_of(server: ChatServer) -> dict[str, str]:
    return {key: server.env[key] for key in ("HOST", "PORT", "INTERNAL_API_SECRET")}


class Scene:
    """Two nodes, A and B, and people: `alice` uses A, everybody else uses B."""

    def __init__(self, nodes: Spread, mongo: Mongo, database: MongoServer, people: People) -> None:
        self.a, self.b = nodes.servers
        self.mongo = mongo
        self.database = database
        self.people = people
        self.alice: Person = people("alice").at(self.a)
        self.bob, self.carol = (person.at(self.b) for person in people("bob", "carol"))

    async def known(self, person: Person) -> None:
        await self.people.master("POST", "/users/sync", {"externalUserId": person.id})

    async def jobs(self) -> list[dict[str, Any]]:
        """Returns the unfinished jobs of users and conversations, as `chatserver jobs` prints them."""
        ran = await run("jobs", "--json", **env_of(self.b))
        assert ran.code == 0, ran.err
        return [job for job in json.loads(ran.out)["items"] if job["subject"]]

    async def none_left(self, **where: Any) -> None:
        """Waits until no such participant is left, and no such membership."""
        for rows in (self.mongo.participants, self.mongo.memberships):
            await until(lambda rows=rows: rows.count_documents(where, limit=1), 0)

    def slowly(self) -> AbstractContextManager[None]:
        """Participants are removed slowly, so that a test can interrupt it."""
        slow = {"blockConnection": True, "blockTimeMS": 200, "namespace": PARTICIPANTS}
        return self.database.failing("delete", **slow)

    async def records(self, kind: str) -> Counter[str]:
        """Returns how often an event of this type was recorded, by its conversation."""
        found = self.mongo.outbox.find({"kind": kind})
        return Counter([doc["key"] async for doc in found])

    async def ends(self) -> Counter[str]:
        found = self.mongo.log.find({"kind": "end"})
        return Counter([doc["conversationId"] async for doc in found])


@pytest_asyncio.fixture
async def scene(
    own_mongo: MongoServer, own_redis: RedisServer, tmp_path: Path
) -> AsyncIterator[Scene]:
    # Events are recorded, and nobody takes them.
    settings = {"WEBHOOK_URL": "http://127.0.0.1:9/", "WEBHOOK_RELAY": "off"}
    mongo = Mongo(own_mongo.url, DATABASE)
    async with (
        spread(own_mongo.url, own_redis.url, DATABASE, tmp_path, count=2, **settings) as nodes,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as session,
    ):
        people = People(nodes.servers[1], session)
        yield Scene(nodes, mongo, own_mongo, people)
        await people.go_home()
    await mongo.close()


async def removals(device: Device, user: Person) -> Counter[str]:
    """Returns how often the device heard that the user has left, by conversation."""
    heard = await device.all_heard("participant:removed")
    return Counter(event["conversationId"] for event in heard if event["userId"] == user.id)


async def delete(user: Person, server: ChatServer) -> int | None:
    """Deletes a user. Returns the status; None if the server has died."""
    try:
        return (await People(server, user.session).master("DELETE", f"/users/{user.id}"))[0]
    except aiohttp.ClientError:
        return None


async def test_another_node_finishes_the_jobs_of_a_node_that_is_killed(scene: Scene) -> None:
    alice, bob, carol = scene.alice, scene.bob, scene.carol
    await scene.known(carol)
    left = await large.conversations(scene.mongo, CONVERSATIONS, bob, carol)
    channel = await large.channel(scene.mongo, MEMBERS, alice, bob)
    device = await bob.connect()
    with scene.slowly():
        ending = asyncio.create_task(alice.request("DELETE", f"/conversations/{channel['id']}"))
        await device.hears("conversation:removed")
        leaving = asyncio.create_task(delete(carol, scene.a))
        await device.hears("participant:removed")
        await scene.a.kill()
    await asyncio.gather(ending, leaving, return_exceptions=True)
    # Both are under way, and over for everybody who asks.
    assert {job["kind"] for job in await scene.jobs()} == {"conversation.deletion", "user.deletion"}
    assert await scene.mongo.participants.count_documents({"userId": carol.id}) > 0
    assert await scene.mongo.participants.count_documents({"conversationId": channel["id"]}) > 0
    assert (await carol.refused("GET", "/conversations")).code == "FORBIDDEN"
    assert (await bob.refused("GET", f"/conversations/{channel['id']}")).code == "NOT_FOUND"
    await scene.none_left(userId=carol.id)
    await scene.none_left(conversationId=channel["id"])
    assert await removals(device, carol) == dict.fromkeys(left, 1)
    assert await scene.records("participant.removed") == dict.fromkeys(left, 1)
    assert await device.all_heard("conversation:removed") == [{"conversationId": channel["id"]}]
    assert await scene.ends() == {channel["id"]: 1}


async def test_a_worker_that_was_frozen_does_nothing_twice(scene: Scene) -> None:
    bob, carol = scene.bob, scene.carol
    await scene.known(carol)
    left = await large.conversations(scene.mongo, CONVERSATIONS, bob, carol)
    device = await bob.connect()
    with scene.slowly():
        leaving = asyncio.create_task(delete(carol, scene.a))
        await device.hears("participant:removed")
        scene.a.signal(signal.SIGSTOP)
    next_ones = scene.mongo.participants.find({"userId": carol.id}).sort("conversationId")
    under_way = [doc["conversationId"] async for doc in next_ones.limit(STEP)]
    assert len(under_way) == STEP
    await scene.none_left(userId=carol.id)
    # Carol comes back while the frozen node is about to remove her.
    restored = {"externalUserId": carol.id, "status": "active"}
    assert (await scene.people.master("POST", "/users/sync", restored))[0] == 200
    for conversation_id in under_way:
        path = f"/conversations/{conversation_id}/participants"
        await bob.ask("POST", path, {"userIds": [carol.id]})
    scene.a.signal(signal.SIGCONT)
    await leaving
    await until(lambda: _metric_of(scene.a, "chat_jobs_steps_total user.deletion lost"), 1)
    assert await removals(device, carol) == dict.fromkeys(left, 1)
    assert await scene.records("participant.removed") == dict.fromkeys(left, 1)
    now = scene.mongo.participants.find({"userId": carol.id})
    assert sorted([doc["conversationId"] async for doc in now]) == under_way


async def test_a_deletion_waits_while_the_database_is_away(scene: Scene) -> None:
    bob, carol = scene.bob, scene.carol
    await scene.known(carol)
    left = await large.conversations(scene.mongo, CONVERSATIONS, bob, carol)
    device = await bob.connect()
    with scene.slowly():
        leaving = asyncio.create_task(delete(carol, scene.a))
        await device.hears("participant:removed")
    scene.database.signal(signal.SIGSTOP)
    await asyncio.sleep(6)
    scene.database.signal(signal.SIGCONT)
    await leaving
    await scene.none_left(userId=carol.id)
    assert await removals(device, carol) == dict.fromkeys(left, 1)
    assert await scene.records("participant.removed") == dict.fromkeys(left, 1)


async def test_a_large_conversation_is_gone_before_the_answer_without_redis_too(
    scene: Scene, own_redis: RedisServer
) -> None:
    alice, bob, carol = scene.alice, scene.bob, scene.carol
    channel = await large.channel(scene.mongo, 3000, alice, bob, carol)
    path = f"/conversations/{channel['id']}"
    here, there = await asyncio.gather(alice.connect(), bob.connect())
    said = await here.say(channel, "Hello")
    await there.hears("message:new")
    await own_redis.kill()
    slow = {"blockConnection": True, "blockTimeMS": 3000, "namespace": PARTICIPANTS}
    assert (await bob.refused("DELETE", path)).code == "FORBIDDEN"
    assert (await scene.people("eve").refused("DELETE", path)).code == "NOT_FOUND"
    with scene.database.failing("delete", **slow):
        deleting = asyncio.create_task(alice.request("DELETE", path))
        for device in (here, there):
            assert await device.hears("conversation:removed") == {"conversationId": channel["id"]}
        assert await deleting == (202, {})
        assert await scene.mongo.participants.count_documents({"conversationId": channel["id"]})
        for person in (alice, bob, carol, carol.at(scene.a)):
            for method, part, body in (
                ("GET", path, None),
                ("GET", f"{path}/messages", None),
                ("GET", f"{path}/participants", None),
                ("GET", f"{path}/presence", None),
                ("GET", f"{path}/unread-count", None),
                ("PUT", f"{path}/read", {}),
                ("POST", f"{path}/messages", {"content": "?"}),
                ("POST", f"{path}/participants", {"userIds": ["x"]}),
                ("GET", f"/messages/{said['id']}", None),
                ("DELETE", path, None),
            ):
                assert (await person.refused(method, part, body)).code == "NOT_FOUND", part
            assert (await person.ask("GET", "/conversations"))["items"] == []
        late = [await person.connect() for person in (carol, carol.at(scene.a))]
        for device in late:
            assert dict(device.heard)["connected"]["rooms"] == []
    await own_redis.start()
    await scene.none_left(conversationId=channel["id"])
    for device in (here, there):
        assert len(await device.all_heard("conversation:removed")) == 1


async def test_a_job_that_fails_is_shown_and_repeated(scene: Scene) -> None:
    scene.a.may_log_errors = scene.b.may_log_errors = True
    channel = await large.channel(scene.mongo, 3000, scene.alice)
    with scene.database.failing("delete", errorCode=8000, namespace=PARTICIPANTS):
        answer = await scene.alice.request("DELETE", f"/conversations/{channel['id']}")
        assert answer == (202, {})
        (job,) = await scene.jobs()
        about = ("kind", "subject", "done", "total", "error")
        expected = ("conversation.deletion", channel["id"], 0, 3000, "OperationFailure")
        assert tuple(job[key] for key in about) == expected
        assert job["attempts"] >= 1
        printed = (await run("jobs", **env_of(scene.b))).out
        assert "OperationFailure" in printed
        assert "0 of 3,000" in printed
        failing = "chat_jobs_failing conversation.deletion"
        await until(lambda: _metric_of(scene.b, failing), 1)
    await scene.none_left(conversationId=channel["id"])


async def _metric_of(server: ChatServer, name: str) -> float:
    return samples(await scrape(server))[name]
