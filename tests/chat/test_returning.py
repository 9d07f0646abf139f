"""A user who left a conversation and comes back has the same read marks and hidden messages. Meanwhile the user is no
member. A user who was never there has nothing unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from chatserver.chat.absences import MAX_AHEAD
from chatserver.mongo import Mongo
from tests.support.database_proxy import Nodes
from tests.support.patience import PATIENCE_S
from tests.support.people import People, Person, devices
from tests.support.people_on_nodes import Spread
from tests.support.raw import Wire
from tests.support.redises import RedisServer


def path(talk: Any, *rest: str) -> str:
    return "/".join((f"/conversations/{talk['id']}", *rest))


async def say(person: Person, talk: Any, *texts: str) -> list[Any]:
    return [await person.ask("POST", path(talk, "messages"), {"content": t}) for t in texts]


async def unread(person: Person, talk: Any) -> int:
    return int((await person.ask("GET", path(talk, "unread-count")))["count"])


async def texts(person: Person, talk: Any) -> list[str]:
    page = await person.ask("GET", path(talk, "messages"))
    return [message["content"] for message in page["items"]]


async def marks(person: Person, talk: Any) -> dict[str, int]:
    seen = await person.ask("GET", path(talk))
    return {who["userId"]: who["lastReadSeq"] for who in seen["participants"]}


async def readers(person: Person, message: Any) -> list[str]:
    answer = await person.ask("GET", f"/messages/{message['id']}/read")
    return [reader["userId"] for reader in answer["items"]]


async def leaves(person: Person, talk: Any, actor: Person | None = None) -> None:
    await (actor or person).ask("DELETE", path(talk, "participants", person.id))


async def comes(person: Person, talk: Any, actor: Person) -> None:
    await actor.ask("POST", path(talk, "participants"), {"userIds": [person.id]})


@pytest_asyncio.fixture
async def mongo(people: People, mongo_url: str) -> AsyncIterator[Mongo]:
    mongo = Mongo(mongo_url, people.server.env["MONGO_DATABASE"])
    yield mongo
    await mongo.close()


@pytest.mark.parametrize("removed", [True, False])
async def test_a_user_who_comes_back_has_what_was_unread_and_what_was_hidden(
    people: People, removed: bool
) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    desk = await alice.connect()
    said = await say(alice, group, *"12345")
    await bob.ask("PUT", f"/messages/{said[0]['id']}/read")
    await bob.ask("PUT", f"/messages/{said[3]['id']}/read")
    for hidden in (said[1], said[4]):
        await bob.ask("DELETE", f"/messages/{hidden['id']}?scope=self")
    his = await devices(bob, bob, bob)  # on every node

    await leaves(bob, group, alice if removed else None)
    assert (await bob.refused("GET", path(group, "unread-count"))).code == "NOT_FOUND"
    away = await say(alice, group, *"67")
    # An unread message can still be deleted, and then it is unread no more.
    assert list(await marks(alice, group)) == [alice.id]
    await comes(bob, group, alice)

    for device in his:
        joined = await device.hears("conversation:joined")
        assert (joined["lastSeq"], joined["lastMessage"]["content"]) == (7, "7")
    assert await unread(bob, group) == 1
    assert await marks(bob, group) == {alice.id: 0, bob.id: 1}
    (after,) = await say(alice, group, "8")
    assert await unread(bob, group) == 2
    await desk.caught_up()
    for device in his:
        assert [message["content"] for message in await device.all_heard("message:new")] == ["8"]
        page = await device.do("messages:sync", {"conversationId": group["id"], "afterSeq": 0})
        assert [message["content"] for message in page["messages"]] == [*"1", "", *"34", "", *"678"]
    # The absence made no receipts, and neither does reading over it.
    skipped = await his[0].do("message:read", {"messageId": away[0]["id"]})
    assert skipped["readAt"] == away[0]["createdAt"]
    read = await his[0].do("conversation:read", {"conversationId": group["id"]})
    assert (read["count"], read["upToMessageId"]) == (2, after["id"])
    assert await unread(bob, group) == 0
    assert [await readers(alice, message) for message in away] == [[], []]
    for message in (said[0], said[2], said[3], after):
        assert await readers(alice, message) == [bob.id]
    told = [mark["messageId"] for mark in await desk.all_heard("message:read")]
    assert told == [said[0]["id"], said[3]["id"]]
    assert await desk.all_heard("conversation:read") == [read]


async def test_a_newcomer_has_nothing_unread_and_makes_no_receipts(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob)
    said = await say(alice, group, *"12")
    desk, hers = await devices(alice, carol)
    await comes(carol, group, alice)
    await hers.hears("conversation:joined")
    assert await marks(bob, group) == {alice.id: 0, bob.id: 0, carol.id: 2}
    assert [await unread(person, group) for person in (bob, carol)] == [2, 0]
    assert await texts(carol, group) == ["1", "2"]
    # A mark that does not move is not announced.
    marked = await hers.do("message:read", {"messageId": said[0]["id"]})
    assert marked["readAt"] == said[0]["createdAt"]
    assert (await hers.do("conversation:read", {"conversationId": group["id"]}))["count"] == 0
    (new,) = await say(bob, group, "3")
    assert await unread(carol, group) == 1
    assert (await hers.do("conversation:read", {"conversationId": group["id"]}))["count"] == 1
    assert [await readers(bob, message) for message in (*said, new)] == [[], [], [carol.id]]
    assert len(await desk.all_heard("conversation:read")) == 1
    assert await desk.all_heard("message:read") == []


async def test_the_last_message_stays_hidden_for_a_user_who_comes_back(people: People) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    (said,) = await say(alice, group, "Hidden")
    await bob.ask("DELETE", f"/messages/{said['id']}?scope=self")
    await leaves(bob, group)
    desk, *his = await devices(alice, bob, bob, bob)
    await comes(bob, group, alice)
    for device in his:
        joined = await device.hears("conversation:joined")
        assert (joined["lastMessage"]["content"], joined["lastMessage"]["isDeleted"]) == ("", True)
        page = await device.do("messages:sync", {"conversationId": group["id"], "afterSeq": 0})
        assert page["messages"][0]["content"] == ""
    assert (await bob.ask("GET", path(group)))["lastMessage"]["content"] == ""
    assert (await alice.ask("GET", path(group)))["lastMessage"]["content"] == "Hidden"
    assert await desk.all_heard("message:deleted") == []


async def test_a_private_group_is_entered_again_while_redis_is_down(
    own_redis: RedisServer, own_nodes: Spread, everyone: People
) -> None:
    alice, bob = everyone("alice", "bob")
    alice, bob = alice.at(own_nodes.servers[0]), bob.at(own_nodes.servers[1])
    group = await alice.ask("POST", "/conversations/private", {"userIds": [bob.id]})
    said = await say(alice, group, *"123")
    await bob.ask("PUT", f"/messages/{said[0]['id']}/read")
    await bob.ask("DELETE", f"/messages/{said[2]['id']}?scope=self")
    await leaves(bob, group)
    await say(alice, group, "Away")
    far = await Wire.connect(bob.at(own_nodes.servers[2]))
    await own_redis.kill()
    await comes(bob, group, alice)
    # Nothing tells this node of it, and it does not follow the room.
    await far.until(lambda: far.told("conversation:joined"))
    assert await unread(bob, group) == 1
    await own_redis.start()
    await own_nodes.joined(own_redis)
    await own_nodes.settled()
    # Now the node relies on its memory.
    page = await far.do("messages:sync", {"conversationId": group["id"], "afterSeq": 0})
    assert [message["content"] for message in page["messages"]] == ["1", "2", "", "Away"]
    await say(alice, group, "Here")
    assert await unread(bob, group) == 2
    await far.close()


async def test_the_state_outlasts_absences_without_a_message_and_a_deletion(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    said = await say(alice, talk, *"123")
    await bob.ask("DELETE", f"/messages/{said[0]['id']}?scope=self")
    await people.master("DELETE", f"/users/{bob.id}")
    await say(alice, talk, "To nobody")
    back = {"externalUserId": bob.id, "status": "active"}
    await people.master("POST", "/users/sync", back)
    await alice.direct(bob)
    assert (await unread(bob, talk), await texts(bob, talk)) == (2, ["", "2", "3", "To nobody"])

    group = await alice.group(bob)
    await say(alice, group, *"12")
    for _ in range(3):
        await leaves(bob, group)
        await comes(bob, group, alice)
    assert (await unread(bob, group), (await marks(bob, group))[bob.id]) == (2, 0)


async def test_a_mark_that_is_being_stored_while_its_user_leaves_and_returns_is_added_to_the_rest(
    two: Nodes, session: aiohttp.ClientSession
) -> None:
    alice, bob = People(two.near, session)("alice", "bob")
    group = await alice.group(bob)
    said = await say(alice, group, *"123")
    hold = two.proxy.hold("aggregate", "participants", group["id"])
    reading = asyncio.create_task(bob.at(two.far).request("PUT", f"/messages/{said[0]['id']}/read"))
    await hold.arrived()
    await leaves(bob, group, alice)
    await say(alice, group, "Away")
    await comes(bob, group, alice)
    hold.release()
    assert (await reading)[0] == 200
    assert (await unread(bob, group), (await marks(bob, group))[bob.id]) == (2, 1)
    assert await readers(alice, said[0]) == [bob.id]


async def test_absences_beyond_the_bound_let_the_oldest_messages_count_as_read(
    people: People, mongo: Mongo
) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    await say(alice, group, *"12345")
    await leaves(bob, group)
    # As after a thousand absences, each of one message, with one unread message between them.
    which = {"_id": f"{group['id']}:{bob.id}"}
    ahead = [[2 * n, 2 * n] for n in range(1, MAX_AHEAD + 2)]
    await mongo.absences.update_one(which, {"$set": {"ahead": ahead}})
    await comes(bob, group, alice)
    assert (await unread(bob, group), (await marks(bob, group))[bob.id]) == (2, 2)
    doc = await mongo.participants.find_one(which)
    assert doc is not None
    assert len(doc["ahead"]) == MAX_AHEAD


async def test_a_deleted_conversation_leaves_no_state(people: People, mongo: Mongo) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group, other = await alice.group(bob, carol), await alice.group(bob)
    for talk in (group, other):
        await say(alice, talk, "1")
        await leaves(bob, talk)
    await comes(bob, other, alice)
    kept = {doc["_id"] async for doc in mongo.absences.find({"userId": bob.id})}
    assert kept == {f"{group['id']}:{bob.id}"}
    await leaves(bob, other)
    await alice.ask("DELETE", path(group))
    await people.master("DELETE", f"/users/{carol.id}")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            kept = {doc["_id"] async for doc in mongo.absences.find({"userId": bob.id})}
            if kept == {f"{other['id']}:{bob.id}"}:
                break
            await asyncio.sleep(0.1)
    assert await mongo.absences.find_one({"userId": carol.id}) is None
