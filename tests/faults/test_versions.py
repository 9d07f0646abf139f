"""A rolling upgrade from the previous version: for a while its nodes and ours are one chat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest_asyncio

from tests.support import documented
from tests.support.memberships import difference
from tests.support.patience import PATIENCE_S
from tests.support.people import People, Person
from tests.support.previous_version import previous_version
from tests.support.processes import until
from tests.support.raw import Wire, history
from tests.support.redises import RedisServer
from tests.support.relays import lines
from tests.support.servers import ChatServer

SENDS = 40


@pytest_asyncio.fixture
async def stopped(
    mongo_url: str, own_redis: RedisServer, worker: str, tmp_path: Path
) -> AsyncIterator[tuple[ChatServer, ChatServer]]:
    """A node of the previous version and one of this version, for the same database."""
    database = f"versions-{worker}-{time.time_ns()}"
    settings = {"REDIS_URL": own_redis.url, "PRESENCE_GRACE_S": "0.5"}
    old = previous_version(tmp_path, mongo_url, database, **settings)
    new = ChatServer(mongo_url, database, tmp_path / "log-new", **settings)
    async with AsyncExitStack() as stack:
        for server in (old, new):
            stack.push_async_callback(server.stop)
        with documented.by_an_earlier_version():
            yield old, new
    assert "Traceback" not in new.log, new.log[-4000:]
    # The older one may find a message of ours that it cannot read: it then reads the database.
    assert old.log.count("Traceback") == old.log.count("cannot be understood"), old.log[-4000:]


@pytest_asyncio.fixture
async def versions(stopped: tuple[ChatServer, ChatServer]) -> tuple[ChatServer, ChatServer]:
    """A node of the previous version, and one of this version that joined it."""
    for server in stopped:
        await server.start()
    return stopped


async def ready(session: aiohttp.ClientSession, server: ChatServer) -> Any:
    async with session.get(f"{server.rest}/ready") as answer:
        return await answer.json()


async def unknown(session: aiohttp.ClientSession, server: ChatServer) -> str:
    async with session.get(f"{server.rest}/metrics") as answer:
        text = await answer.text()
    (line,) = [line for line in text.splitlines() if line.startswith("chat_bus_unknown_total ")]
    return line


async def both_talk(people: People, here: ChatServer, there: ChatServer) -> None:
    """Changes of every kind on one node reach the clients of the other."""
    alice, bob, carol, dave = (
        person.at(here) for person in people("alice", "bob", "carol", "dave")
    )
    desk, phone = await Wire.connect(alice), await Wire.connect(bob.at(there))
    talk = await alice.group(bob, carol)
    room = {"conversationId": talk["id"]}
    await phone.until(lambda: phone.told("conversation:new"))

    async def say_all(wire: Wire) -> None:
        for answer in [await wire.say(talk, f"{wire.person.id} {n}") for n in range(SENDS)]:
            assert (await answer or {}).get("ok")

    await asyncio.gather(say_all(desk), say_all(phone))
    log = await history(alice, talk)
    assert [message["seq"] for message in log] == list(range(1, 2 * SENDS + 1))
    for wire in (desk, phone):
        await wire.until(lambda wire=wire: len(wire.told("message:new")) >= len(log))
        assert wire.told("message:new") == log, "all of both, in one order"
    assert await history(bob.at(there), talk) == log

    theirs = {"messageId": next(m["id"] for m in log if m["senderId"] == bob.id)}
    await phone.do("message:edit", {**theirs, "content": "edited"})
    await desk.do("reaction:add", {**theirs, "emoji": "👍"})
    await phone.do("conversation:read", room)
    await desk.do("message:read", theirs)
    await desk.do("typing:start", room)
    for wire in (desk, phone):
        for name in ("message:updated", "reaction:added", "conversation:read", "message:read"):
            await wire.until(lambda wire=wire, name=name: wire.told(name))
    await phone.until(lambda: phone.told("user:typing"))

    crowd = people(*(f"p{n}" for n in range(12)))
    guest = await Wire.connect(crowd[-1].at(there))
    await alice.ask(
        "POST",
        f"/conversations/{talk['id']}/participants",
        {"userIds": [person.id for person in crowd]},
    )
    await guest.until(lambda: guest.told("conversation:joined"))
    await desk.do("message:send", {**room, "content": "For all who came"})
    await guest.until(lambda: guest.told("message:new"))
    await guest.close()

    tablet = await Wire.connect(carol.at(there))
    laptop = await Wire.connect(dave.at(there))
    for wire in (desk, phone):
        await wire.until(lambda wire=wire: of(wire, "user:online", carol))
    await alice.ask("POST", f"/conversations/{talk['id']}/participants", {"userIds": [dave.id]})
    await laptop.until(lambda: laptop.told("conversation:joined"))
    await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{carol.id}")
    await desk.do("message:send", {**room, "content": "Not for Carol"})
    await laptop.until(lambda: laptop.told("message:new"))
    await tablet.until(lambda: tablet.told("conversation:removed"))
    await tablet.do("ping")
    assert tablet.told("message:new") == [], "she was removed before"
    await laptop.close()
    for wire in (desk, phone):
        await wire.until(lambda wire=wire: of(wire, "user:offline", dave))
    for wire in (desk, phone, tablet):
        await wire.close()


def of(wire: Wire, event: str, person: Person) -> list[Any]:
    return [payload for payload in wire.told(event) if payload["userId"] == person.id]


async def test_a_rolling_upgrade_and_the_way_back(
    versions: tuple[ChatServer, ChatServer], session: aiohttp.ClientSession
) -> None:
    old, new = versions
    assert "sockets" in await ready(session, old), "it is the previous version"
    assert "sockets" not in await ready(session, new)
    people = People(old, session)
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    await both_talk(people, old, new)
    await both_talk(people, new, old)

    # The old node is stopped. Its client returns on the new one, and has missed nothing.
    desk, phone = await Wire.connect(alice), await Wire.connect(bob.at(new))
    said = [await phone.do("message:send", {"conversationId": talk["id"], "content": "Before"})]
    await desk.until(lambda: desk.told("message:new"))
    assert await old.stop() == 0
    await desk.ended()
    said.append(await phone.do("message:send", {"conversationId": talk["id"], "content": "After"}))
    desk = await Wire.connect(alice.at(new))
    missed = await desk.do("messages:sync", {"conversationId": talk["id"], "afterSeq": 1})
    assert missed["messages"] == said[1:]
    assert await history(bob.at(new), talk) == said
    assert not of(phone, "user:offline", alice)

    # The way back: the schema is still the same, so the previous version starts again.
    await old.start()
    await both_talk(people, old, new)
    assert await unknown(session, new) == "chat_bus_unknown_total 0.0"
    await until(lambda: bool(lines(new, "found another node")))
    for wire in (desk, phone):
        await wire.close()


async def test_lists_keep_their_order_during_an_upgrade_and_after_it(
    stopped: tuple[ChatServer, ChatServer], session: aiohttp.ClientSession
) -> None:
    """Nodes of the previous version note the time of a message in the conversation only."""
    old, new = stopped
    await old.start()
    people = People(old, session)
    alice, bob, *crowd = people("alice", "bob", *(f"p{n}" for n in range(210)))
    talks = [await alice.group(bob, name=f"Talk {n}") for n in range(3)]
    talks.append(await alice.group(bob, *crowd, name="All"))

    async def says(server: ChatServer, talk: Any) -> None:
        path = f"/conversations/{talk['id']}/messages"
        await bob.at(server).ask("POST", path, {"content": "Hi"})

    async def list_is(server: ChatServer, *names: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                page = await alice.at(server).ask("GET", "/conversations")
                if [talk["name"] for talk in page["items"]] == list(names):
                    return
                await asyncio.sleep(0.1)

    await says(old, talks[1])
    await list_is(old, "Talk 1", "All", "Talk 2", "Talk 0")
    await new.start()
    await list_is(new, "Talk 1", "All", "Talk 2", "Talk 0")

    await says(old, talks[0])
    await says(old, talks[3])
    late = await alice.group(name="Late")
    await list_is(new, "Late", "All", "Talk 0", "Talk 1", "Talk 2")
    await says(new, talks[2])
    await alice.ask("POST", f"/conversations/{late['id']}/participants", {"userIds": [bob.id]})
    for server in stopped:
        await list_is(server, "Talk 2", "Late", "All", "Talk 0", "Talk 1")
    await says(old, talks[1])
    assert await old.stop() == 0
    await list_is(new, "Talk 1", "Talk 2", "Late", "All", "Talk 0")
    with pymongo.MongoClient[Any](new.env["MONGO_URL"]) as client:
        database = client[new.env["MONGO_DATABASE"]]
        await until(lambda: "from" not in database.schema.find_one({"_id": "lists"}))
        unplaced = database.memberships.distinct("conversationId", {"activityAt": None})
        assert unplaced == [talks[3]["id"]], "no row but those of the large one"
    await says(new, talks[0])
    await list_is(new, "Talk 0", "Talk 1", "Talk 2", "Late", "All")


async def test_a_key_has_one_conversation_during_an_upgrade_and_after_it(
    stopped: tuple[ChatServer, ChatServer], session: aiohttp.ClientSession
) -> None:
    """Nodes of the previous version keep the key in the conversation only."""
    old, new = stopped
    await old.start()
    people = People(old, session)
    alice, *others = people("alice", *(f"p{n}" for n in range(30)))

    async def private(server: ChatServer, person: Person) -> Any:
        body = {"userIds": [person.id]}
        return (await alice.at(server).ask("POST", "/conversations/private", body))["id"]

    async def direct(server: ChatServer, person: Person) -> Any:
        return (await alice.at(server).direct(person))["id"]

    async def found_by_both(person: Person, *, first: ChatServer) -> None:
        second = new if first is old else old
        for open_ in (direct, private):
            assert await open_(first, person) == await open_(second, person)

    opened = {
        person: [await direct(old, person), await private(old, person)] for person in others[:3]
    }
    await new.start()
    for person, talks in opened.items():
        assert [await direct(new, person), await private(new, person)] == talks
    for n, person in enumerate(others[3:9]):
        await found_by_both(person, first=(old, new)[n % 2])
    for person in others[9:]:
        at_once = [direct((old, new)[n % 2], person) for n in range(6)]
        assert len(set(await asyncio.gather(*at_once))) == 1

    # The older node ends keys of which only the newer one has a document.
    deleted, grown = [await private(new, person) for person in others[:2]]
    assert [deleted, grown] == [opened[person][1] for person in others[:2]]
    await alice.ask("DELETE", f"/conversations/{deleted}")
    await alice.ask("POST", f"/conversations/{grown}/participants", {"userIds": [others[2].id]})
    again = [await private(new, others[0]), await private(old, others[1])]
    assert not {deleted, grown} & {*again}
    assert [await private(old, others[0]), await private(new, others[1])] == again

    guests = people("late0", "late1")
    late = [await direct(old, person) for person in guests]
    assert await old.stop() == 0
    with pymongo.MongoClient[Any](new.env["MONGO_URL"]) as client:
        database = client[new.env["MONGO_DATABASE"]]
        await until(lambda: "from" not in database.schema.find_one({"_id": "lists"}))
        keys = {doc["_id"]: doc["conversationId"] for doc in database.conversation_keys.find()}
        used = {
            doc["key"]: doc["_id"]
            for doc in database.conversations.find({"key": {"$exists": True}})
        }
        assert keys == used
        # From now on it can go, for example because the collection is sharded.
        database.conversations.drop_index("key")
        assert await new.stop() == 0
        await new.start()
        assert "key" not in database.conversations.index_information()
    assert [await direct(new, person) for person in guests] == late


async def test_users_are_where_they_should_be_during_an_upgrade_and_after_it(
    stopped: tuple[ChatServer, ChatServer], session: aiohttp.ClientSession
) -> None:
    """Nodes of the previous version write the members of a conversation, but no memberships of users."""
    old, new = stopped
    await old.start()
    people = People(old, session)
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    talk = await alice.group(bob)
    gone = await alice.group(bob)
    room = {"conversationId": talk["id"]}
    path = f"/conversations/{talk['id']}"

    async def hear(*names: str) -> None:
        """Those who connect to the newer node now, and no others, receive a message from the older one."""
        wires = {person: await Wire.connect(person.at(new)) for person in (bob, carol, dave)}
        sent = await alice.at(old).ask("POST", f"{path}/messages", {"content": "Hi"})
        for person, wire in wires.items():
            here = person.id.partition("-")[0] in names
            items = (await person.at(new).ask("GET", "/conversations"))["items"]
            assert (talk["id"] in [each["id"] for each in items]) == here, (person.id, names)
            if here:
                await wire.until(lambda wire=wire: sent in wire.told("message:new"))
            await wire.do("ping")
            assert bool(wire.told("message:new")) == here, (person.id, names)
            await wire.close()

    await new.start()
    await hear("bob")
    await alice.ask("POST", f"{path}/participants", {"userIds": [carol.id]})
    await hear("bob", "carol")
    await alice.ask("DELETE", f"{path}/participants/{bob.id}")
    await hear("carol")
    await alice.at(new).ask("POST", f"{path}/participants", {"userIds": [dave.id, bob.id]})
    await hear("bob", "carol", "dave")
    await alice.at(new).ask("DELETE", f"{path}/participants/{carol.id}")
    await hear("bob", "dave")

    # All at once, so that no repair comes in between; then only the newer node is left.
    desk = await Wire.connect(bob)
    sent = await desk.do("message:send", {**room, "content": "Hidden"})
    await desk.do("message:delete", {"messageId": sent["id"], "scope": "self"})
    await alice.ask("POST", f"{path}/participants", {"userIds": [carol.id]})
    await alice.ask("DELETE", f"{path}/participants/{dave.id}")
    await alice.ask("DELETE", f"/conversations/{gone['id']}")
    late = await carol.group(alice)
    await desk.close()
    assert await old.stop() == 0
    with pymongo.MongoClient[Any](new.env["MONGO_URL"]) as client:
        database = client[new.env["MONGO_DATABASE"]]
        await until(lambda: "from" not in database.schema.find_one({"_id": "lists"}))
        assert difference(database) == []
        # From now on they can go.
        database.participants.drop_indexes()
    for person, talks in ((alice, [talk, late]), (bob, [talk]), (carol, [talk, late]), (dave, [])):
        page = await person.at(new).ask("GET", "/conversations")
        assert sorted(each["id"] for each in page["items"]) == sorted(each["id"] for each in talks)
    (seen,) = (await bob.at(new).ask("GET", "/conversations"))["items"]
    assert seen["lastMessage"]["isDeleted"], "he has hidden it"
    desk, phone = await Wire.connect(carol.at(new)), await Wire.connect(dave.at(new))
    await alice.at(new).ask("POST", f"{path}/messages", {"content": "Hello"})
    await desk.until(lambda: desk.told("message:new"))
    await phone.do("ping")
    assert phone.told("message:new") == []
    for wire in (desk, phone):
        await wire.close()
