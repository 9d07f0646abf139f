"""Unread counts are exact: they count messages by others that are neither read nor deleted nor hidden."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import pymongo
import pytest
import pytest_asyncio

from chatserver.chat.read_state.planned_marks import NEAR
from chatserver.chat.read_state.unread import MANY
from chatserver.mongo import Mongo
from tests.support.people import People, Person


@pytest_asyncio.fixture
async def mongo(people: People, mongo_url: str) -> AsyncIterator[Mongo]:
    """The database of the nodes."""
    mongo = Mongo(mongo_url, people.server.env["MONGO_DATABASE"])
    yield mongo
    await mongo.close()


async def unread(person: Person, talk: Any) -> int:
    """The count, which must be the same wherever it is shown."""
    answer = await person.ask("GET", f"/conversations/{talk['id']}/unread-count")
    listed = await person.ask("GET", "/conversations")
    (item,) = [conversation for conversation in listed["items"] if conversation["id"] == talk["id"]]
    assert answer == {"conversationId": talk["id"], "count": item["unreadCount"]}
    return int(answer["count"])


async def say(person: Person, talk: Any, *texts: str) -> list[Any]:
    path = f"/conversations/{talk['id']}/messages"
    return [await person.ask("POST", path, {"content": text}) for text in texts]


async def read(person: Person, message: Any) -> None:
    await person.ask("PUT", f"/messages/{message['id']}/read")


async def test_your_own_messages_are_never_unread(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    assert (await unread(alice, talk), await unread(bob, talk)) == (0, 0)
    await say(alice, talk, "1", "2")
    assert (await unread(alice, talk), await unread(bob, talk)) == (0, 2)
    # Sending a message marks nothing as read.
    await say(bob, talk, "3")
    assert (await unread(alice, talk), await unread(bob, talk)) == (1, 2)


async def test_messages_may_be_read_in_any_order(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    said = await say(alice, talk, *"123456")
    left = 6
    for at in (4, 0, 2, 2, 5, 1, 3):
        await read(bob, said[at])
        left -= 0 if at == 2 and left == 3 else 1
        assert await unread(bob, talk) == left
    assert left == 0
    seen = await bob.ask("GET", f"/conversations/{talk['id']}")
    assert {
        participant["userId"]: participant["lastReadSeq"] for participant in seen["participants"]
    }[bob.id] == 6


async def test_reading_up_to_a_message_returns_how_many_became_read(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    path = f"/conversations/{talk['id']}/read"
    first, second, _ = await say(alice, talk, *"123")
    (mine,) = await say(bob, talk, "4")
    five, six = await say(alice, talk, *"56")
    await read(bob, five)
    await alice.ask("DELETE", f"/messages/{second['id']}")
    assert await unread(bob, talk) == 3

    up_to_mine = await bob.ask("PUT", path, {"upToMessageId": mine["id"]})
    assert (up_to_mine["upToMessageId"], up_to_mine["count"]) == (mine["id"], 2)
    assert await unread(bob, talk) == 1
    earlier = await bob.ask("PUT", path, {"upToMessageId": first["id"]})
    assert (earlier["upToMessageId"], earlier["count"]) == (first["id"], 0)
    whole = await bob.ask("PUT", path)
    assert (whole["upToMessageId"], whole["count"]) == (six["id"], 1)
    assert await unread(bob, talk) == 0
    assert await unread(alice, talk) == 1
    await say(alice, talk, "7")
    assert await unread(bob, talk) == 1


async def test_deleted_or_hidden_messages_are_not_unread(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    first, second, third, fourth = await say(alice, group, *"1234")
    await alice.ask("DELETE", f"/messages/{first['id']}")
    assert (await unread(bob, group), await unread(carol, group)) == (3, 3)
    await bob.ask("DELETE", f"/messages/{second['id']}?scope=self")
    assert (await unread(bob, group), await unread(carol, group)) == (2, 3)
    # A message that is both hidden and deleted for everyone counts once, in either order.
    await alice.ask("DELETE", f"/messages/{second['id']}")
    await bob.ask("DELETE", f"/messages/{first['id']}?scope=self")
    assert (await unread(bob, group), await unread(carol, group)) == (2, 2)
    # Messages that are hidden or deleted after they were read.
    await read(bob, third)
    await bob.ask("DELETE", f"/messages/{third['id']}?scope=self")
    await read(carol, fourth)
    await alice.ask("DELETE", f"/messages/{fourth['id']}")
    assert (await unread(bob, group), await unread(carol, group)) == (0, 1)


async def test_an_edit_and_a_reaction_make_nothing_unread(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    (said,) = await say(alice, talk, "1")
    await bob.ask("PUT", f"/conversations/{talk['id']}/read")
    await alice.ask("PATCH", f"/messages/{said['id']}", {"content": "One"})
    await alice.ask("POST", f"/messages/{said['id']}/reactions", {"emoji": "👍"})
    assert await unread(bob, talk) == 0


async def test_each_participant_has_a_separate_count(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob)
    await say(alice, group, *"12")
    await bob.ask("PUT", f"/conversations/{group['id']}/read")
    path = f"/conversations/{group['id']}/participants"
    await alice.ask("POST", path, {"userIds": [carol.id]})
    # A user who joins later can read everything, and has nothing unread.
    assert (await unread(bob, group), await unread(carol, group)) == (0, 0)
    await say(bob, group, "3")
    assert [await unread(person, group) for person in (alice, bob, carol)] == [1, 0, 1]
    stranger = people("stranger")
    refusal = await stranger.refused("GET", f"/conversations/{group['id']}/unread-count")
    assert refusal.code == "NOT_FOUND"


@dataclass
class Said:
    message: Any
    sender: Person
    deleted: bool = False
    hidden_by: set[str] = field(default_factory=set)
    read_by: set[str] = field(default_factory=set)
    """Also the users for whom it counts as read, because they were not there."""
    receipts: set[str] = field(default_factory=set)

    def unread_by(self, person: Person) -> bool:
        others = self.sender is not person and not self.deleted
        return others and person.id not in self.hidden_by | self.read_by

    def mark(self, person: Person) -> None:
        if self.unread_by(person):
            self.receipts.add(person.id)
        self.read_by.add(person.id)


@pytest.mark.parametrize("seed", range(3))
async def test_the_counts_stay_exact_whatever_happens_in_a_conversation(
    people: People, seed: int
) -> None:
    """With the last seed everybody has sent so much that the counts are stored."""
    chance = random.Random(seed)
    alice, bob, carol, dave = everyone = people("alice", "bob", "carol", "dave")
    talk = await alice.group(bob, carol)
    path = f"/conversations/{talk['id']}/participants"
    away = {dave: 0}
    """Users who are not participants, and how many messages there were when they left."""
    devices = {person.id: await person.connect() for person in everyone}
    said: list[Said] = []

    async def send(who: Person) -> None:
        said.append(Said(await devices[who.id].say(talk, "Words"), who))

    async def delete(who: Person) -> None:
        mine = [entry for entry in said if entry.sender is who]
        if mine:
            entry = chance.choice(mine)
            await who.ask("DELETE", f"/messages/{entry.message['id']}")
            entry.deleted = True

    async def hide(who: Person) -> None:
        entry = chance.choice(said)
        where = {"messageId": entry.message["id"], "scope": "self"}
        await devices[who.id].do("message:delete", where)
        entry.hidden_by.add(who.id)

    async def mark(who: Person) -> None:
        entry = chance.choice(said)
        await devices[who.id].do("message:read", {"messageId": entry.message["id"]})
        entry.mark(who)

    async def mark_up_to(who: Person) -> None:
        upto = chance.randint(0, len(said) - 1)
        where = {"conversationId": talk["id"], "upToMessageId": said[upto].message["id"]}
        done = await devices[who.id].do("conversation:read", where)
        assert done["count"] == sum(entry.unread_by(who) for entry in said[: upto + 1])
        for entry in said[: upto + 1]:
            entry.mark(who)

    async def leave(who: Person) -> None:
        if who is not alice:
            await chance.choice([alice, who]).ask("DELETE", f"{path}/{who.id}")
            away[who] = len(said)

    async def come(who: Person) -> None:
        await alice.ask("POST", path, {"userIds": [who.id]})
        for entry in said[away.pop(who) :]:
            entry.read_by.add(who.id)

    await send(alice)
    if seed == 2:
        for who in (alice, bob, carol):
            own = [devices[who.id].say(talk, "own") for _ in range(MANY)]
            messages = sorted(await asyncio.gather(*own), key=itemgetter("seq"))
            said += [Said(message, who) for message in messages]
    for _ in range(90):
        if away and chance.random() < 0.15:
            await come(chance.choice([*away]))
        here = [person for person in everyone if person not in away]
        what = chance.choices([send, delete, hide, mark, mark_up_to, leave], [12, 2, 3, 8, 1, 2])[0]
        await what(chance.choice(here))
        who = chance.choice([person for person in here if person not in away])
        assert await unread(who, talk) == sum(entry.unread_by(who) for entry in said)
    for who in [*away]:
        await come(who)
    for who in everyone:
        assert await unread(who, talk) == sum(entry.unread_by(who) for entry in said)
    for entry in said:
        if not entry.deleted:
            readers = await alice.ask("GET", f"/messages/{entry.message['id']}/read")
            found = {reader["userId"] for reader in readers["items"]}
            assert found - entry.hidden_by == entry.receipts - entry.hidden_by


async def row_of(mongo: Mongo, person: Person, talk: Any) -> Any:
    return await mongo.participants.find_one({"_id": f"{talk['id']}:{person.id}"})


async def test_a_count_goes_on_from_the_stored_one(people: People, mongo: Mongo) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    first, second, third, fourth, hidden = await say(bob, talk, *"12345")
    device = await alice.connect()
    await device.do("message:delete", {"messageId": hidden["id"], "scope": "self"})
    await asyncio.gather(*[device.say(talk, "own") for _ in range(MANY)])
    assert await unread(alice, talk) == 4
    row = await row_of(mongo, alice, talk)
    assert (row["unread"]["count"], row["unread"]["seq"]) == (4, MANY + 5)

    await say(bob, talk, "6")
    await bob.ask("DELETE", f"/messages/{first['id']}")
    await bob.ask("DELETE", f"/messages/{hidden['id']}")
    assert await unread(alice, talk) == 4
    await device.do("message:delete", {"messageId": second["id"], "scope": "self"})
    assert await unread(alice, talk) == 3
    await bob.ask("DELETE", f"/messages/{second['id']}")
    assert await unread(alice, talk) == 3
    assert (await row_of(mongo, alice, talk))["unread"] == row["unread"]

    # A mark takes the stored count with it.
    await read(alice, fourth)
    unread_now = (await row_of(mongo, alice, talk))["unread"]
    assert (unread_now["count"], unread_now["seq"]) == (2, MANY + 6)
    assert await unread(alice, talk) == 2
    done = await alice.ask(
        "PUT", f"/conversations/{talk['id']}/read", {"upToMessageId": third["id"]}
    )
    assert (done["count"], await unread(alice, talk)) == (1, 1)
    done = await alice.ask("PUT", f"/conversations/{talk['id']}/read")
    assert (done["count"], await unread(alice, talk)) == (1, 0)


async def test_a_mark_by_a_node_that_stores_no_counts_ends_the_stored_count(
    people: People, mongo: Mongo
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    await say(bob, talk, *"123")
    device = await alice.connect()
    await asyncio.gather(*[device.say(talk, "own") for _ in range(MANY)])
    assert await unread(alice, talk) == 3
    older = {"$set": {"lastReadSeq": 2, "ahead": []}, "$inc": {"readVersion": 1}}
    await mongo.participants.update_one({"_id": f"{talk['id']}:{alice.id}"}, older)
    assert await unread(alice, talk) == 1
    assert (await row_of(mongo, alice, talk))["unread"]["count"] == 1


async def test_counts_are_exact_while_other_devices_read_and_other_nodes_count(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    device = await alice.connect()
    said = []
    for n in range(30):
        said += await say(bob, talk, f"{n}")
        await asyncio.gather(*[device.say(talk, "own") for _ in range(MANY // 25)])
    elsewhere = alice.at(bob.server)
    path = f"/conversations/{talk['id']}/unread-count"
    for n in range(0, 30, 3):
        counts = [who.ask("GET", path) for who in (alice, elsewhere) * 3]
        marks = [read(who, said[m]) for m in range(n, n + 3) for who in (alice, elsewhere)]
        deletion = bob.ask("DELETE", f"/messages/{said[29 - n]['id']}")
        await asyncio.gather(*counts, *marks, deletion)
        read_or_gone = {*range(n + 3), *(29 - gone for gone in range(0, n + 1, 3))}
        assert await unread(alice, talk) == await unread(elsewhere, talk) == 30 - len(read_or_gone)


async def test_a_locked_row_holds_up_no_count(
    people: People, mongo: Mongo, shared_mongo: pymongo.MongoClient[Any]
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    await say(bob, talk, *"123")
    device = await alice.connect()
    await asyncio.gather(*[device.say(talk, "own") for _ in range(MANY)])
    database = shared_mongo[people.server.env["MONGO_DATABASE"]]
    with shared_mongo.start_session() as session, session.start_transaction():
        database.participants.update_one(
            {"_id": f"{talk['id']}:{alice.id}"}, {"$set": {"role": "admin"}}, session=session
        )
        assert await unread(alice, talk) == 3
        assert "unread" not in await row_of(mongo, alice, talk)
        session.abort_transaction()
    assert await unread(alice, talk) == 3
    assert (await row_of(mongo, alice, talk))["unread"]["count"] == 3


async def test_a_long_run_of_own_messages_joins_what_was_read_beside_it(
    people: People, mongo: Mongo
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    first, second = await say(bob, talk, *"12")
    device = await alice.connect()
    await asyncio.gather(*[device.say(talk, "own") for _ in range(NEAR + 100)])
    (last,) = await say(bob, talk, "3")

    await read(alice, last)
    row = await row_of(mongo, alice, talk)
    assert (row["lastReadSeq"], row["ahead"]) == (0, [[last["seq"] - NEAR, last["seq"]]])
    assert await unread(alice, talk) == 2
    await read(alice, first)
    assert await unread(alice, talk) == 1
    await read(alice, second)
    row = await row_of(mongo, alice, talk)
    assert (row["lastReadSeq"], row["ahead"]) == (last["seq"], [])
    assert await unread(alice, talk) == 0
