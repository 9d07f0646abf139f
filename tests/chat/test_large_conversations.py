"""In large conversations less is announced: here, in those with more than four participants."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.people import Device, People, Person, devices, presence
from tests.support.people_on_nodes import Spread, spread
from tests.support.redises import RedisServer

SETTINGS = {"LARGE_CONVERSATION": "4", "TYPING_TIMEOUT_S": "60"}
OF_READING = ("message:read", "conversation:read")
OF_MEMBERS = ("participant:added", "participant:removed", "participants:changed")
OF_PRESENCE = ("user:online", "user:offline")


@pytest_asyncio.fixture(scope="module")
async def own_nodes(
    mongo_url: str, redis_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Spread]:
    folder, database = tmp_path_factory.mktemp("large"), f"{worker}-large-{time.time_ns()}"
    async with spread(mongo_url, redis_url, database, folder, count=2, **SETTINGS) as nodes:
        yield nodes


async def of(device: Device, talk: Any, *names: str) -> list[tuple[str, Any]]:
    """Returns the events of the conversation with these names that the device has received."""
    await device.caught_up()
    return [
        (name, told)
        for name, told in device.heard
        if name in names and told.get("conversationId", talk["id"]) == talk["id"]
    ]


async def test_reading_is_told_to_the_readers_own_devices(everyone: People) -> None:
    people: list[Person] = everyone(*"abcde")
    talk = await people[0].group(*people[1:])
    a, b, *others = await devices(*people)
    b2 = await people[1].connect()  # on the other node
    first = await a.say(talk, "one")
    last = await a.say(talk, "two")
    read = await b.do("message:read", {"messageId": first["id"]})
    everything = await b.do("conversation:read", {"conversationId": talk["id"]})
    assert everything["count"] == 1
    for own in (b, b2):
        assert await of(own, talk, *OF_READING) == [
            ("message:read", read),
            ("conversation:read", everything),
        ]
    for other in (a, *others):
        assert await of(other, talk, *OF_READING) == []
    # It is counted and recorded all the same, by whichever node is asked.
    assert (await people[1].ask("GET", f"/conversations/{talk['id']}/unread-count"))["count"] == 0
    readers = await people[4].ask("GET", f"/messages/{last['id']}/read")
    assert [row["userId"] for row in readers["items"]] == [people[1].id]
    # Also if the mark comes by the REST API of a node on which the reader is not connected.
    await people[2].ask("PUT", f"/messages/{last['id']}/read")
    assert [name for name, _ in await of(others[0], talk, *OF_READING)] == ["message:read"]
    assert await of(a, talk, *OF_READING) == []


async def test_a_change_of_size_is_announced_by_the_rules_of_the_new_size(everyone: People) -> None:
    people: list[Person] = everyone(*"abcdefg")
    a, b, e = people[0], people[1], people[4]
    talk = await a.group(*people[1:4])
    path = f"/conversations/{talk['id']}/participants"
    listening = await devices(a, b)
    own = await e.connect()
    await a.ask("POST", path, {"userIds": [e.id]})
    assert (await own.hears("conversation:joined"))["participantCount"] == 5
    for device in listening:
        ((name, told),) = await of(device, talk, *OF_MEMBERS)
        assert name == "participants:changed"
        assert (told["conversationId"], told["participantCount"]) == (talk["id"], 5)
    # E leaves: four are not large.
    await e.ask("DELETE", f"{path}/{e.id}")
    assert await own.hears("conversation:removed") == {"conversationId": talk["id"]}
    for device in listening:
        name, told = (await of(device, talk, *OF_MEMBERS))[-1]
        assert (name, told["userId"]) == ("participant:removed", e.id)
    assert "participant:removed" not in [name for name, _ in own.heard]
    # And reading is announced to all again.
    said = await listening[0].say(talk, "hello")
    await listening[1].do("message:read", {"messageId": said["id"]})
    assert [name for name, _ in await of(listening[0], talk, *OF_READING)] == ["message:read"]


async def test_the_number_of_participants_is_told_once_per_second(everyone: People) -> None:
    people: list[Person] = everyone(*"abcdefghijkl")
    a = people[0]
    talk = await a.group(*people[1:5])
    path = f"/conversations/{talk['id']}/participants"
    listening = await devices(*people[:2])
    came = {device: asyncio.Event() for device in listening}
    times: dict[Device, list[tuple[float, int]]] = {device: [] for device in listening}
    for device in listening:

        def hear(told: Any, device: Device = device) -> None:
            times[device].append((time.monotonic(), told["participantCount"]))
            if told["participantCount"] == 12:
                came[device].set()

        device.client.on("participants:changed", hear)
    for person in people[5:]:
        await a.ask("POST", path, {"userIds": [person.id]})
    for device in listening:
        await asyncio.wait_for(came[device].wait(), 10)
        counts = [count for _, count in times[device]]
        assert counts == sorted(set(counts))
        assert len(counts) < 7
        # Timers and the network are less exact than a second.
        gaps = [later[0] - sooner[0] for sooner, later in pairwise(times[device])]
        assert all(gap > 0.8 for gap in gaps), gaps


async def test_presence_is_announced_in_small_conversations_only(everyone: People) -> None:
    people: list[Person] = everyone(*"abcdef")
    a, b = people[:2]
    talk = await a.group(*people[1:5])
    small = await a.group(b, people[5])
    stranger, friend, own = await devices(people[2], people[5], a)
    b1 = await b.connect()
    await friend.hears("user:online", lambda told: told["userId"] == b.id)
    await own.hears("user:online", lambda told: told["userId"] == b.id)
    await b1.close()
    await friend.hears("user:offline", lambda told: told["userId"] == b.id)
    assert (await presence(people[2], b.id, "offline"))["lastSeen"]
    assert await of(stranger, talk, *OF_PRESENCE) == []
    heard = await of(friend, small, *OF_PRESENCE)
    assert [name for name, told in heard if told["userId"] == b.id] == [*OF_PRESENCE]


async def test_five_at_a_time_are_announced_as_typing(everyone: People) -> None:
    people: list[Person] = everyone(*(f"p{n}" for n in range(9)))
    listener, *writers = people
    talk = await listener.group(*writers)
    listening = await devices(listener, listener)  # one on each node
    typing = await devices(*writers)
    said = await listening[0].say(talk, "hello")
    for device in (*listening, *typing):
        # Every node knows that the conversation is large, because it knows it for reading.
        await device.do("message:read", {"messageId": said["id"]})
    room = {"conversationId": talk["id"]}
    for device in typing:
        await device.do("typing:start", room)

    async def shown(device: Device) -> set[str]:
        told = [payload for _, payload in await of(device, talk, "user:typing")]
        last = {payload["userId"]: payload["isActive"] for payload in told}
        return {user_id for user_id, is_active in last.items() if is_active}

    for own in listening:
        assert len(await shown(own)) == 5
    # A user who stops makes room for one who waits, on every node, until everybody has stopped.
    still = {device.person.id for device in typing}
    for device in typing:
        await device.do("typing:stop", room)
        still.discard(device.person.id)
        for own in listening:
            now = await shown(own)
            assert now <= still
            assert len(now) == min(5, len(still))


async def test_own_devices_learn_of_reading_without_redis(
    mongo_url: str, own_redis: RedisServer, worker: str, tmp_path: Path
) -> None:
    database = f"{worker}-large-{time.time_ns()}"
    async with (
        spread(mongo_url, own_redis.url, database, tmp_path, count=2, **SETTINGS) as nodes,
        aiohttp.ClientSession() as session,
    ):
        crowd = People(nodes.servers[0], session, nodes)
        people: list[Person] = crowd(*"abcde")
        a, b = people[:2]
        talk = await a.group(*people[1:])
        talking, reading, other = await devices(a, b, b)
        assert {device.client.connection_url for device in (reading, other)} == {
            server.sockets for server in nodes.servers
        }
        said = await talking.say(talk, "hello")
        await other.hears("message:new")
        own_redis.signal(signal.SIGSTOP)
        read = await reading.do("message:read", {"messageId": said["id"]})
        assert await other.hears("message:read") == read
        added = crowd("f")
        await a.ask("POST", f"/conversations/{talk['id']}/participants", {"userIds": [added.id]})
        for device in (talking, reading, other):
            assert (await device.hears("participants:changed"))["participantCount"] == 6
        own_redis.signal(signal.SIGCONT)
        assert [name for name, _ in talking.heard if name in OF_READING] == []
        await crowd.go_home()
