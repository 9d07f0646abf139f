"""The readers of a message, page by page, and receipts that do not grow for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database

from chatserver.chat.read_state.merging import AT_ONCE, EVERY, MAX_RECEIPTS, Merging
from chatserver.chat.read_state.unread import Unread
from chatserver.clock import EPOCH, now
from chatserver.mongo import Mongo
from chatserver.mongo.blocks import blocks, blocks_with
from tests.support.people import People, Person
from tests.support.processes import until
from tests.support.profiled import profiled

LONG_AGO = timedelta(days=40)
LAST = 1 << 12


@pytest.fixture
def database(people: People) -> Iterator[Database[Any]]:
    settings = people.server.env
    with pymongo.MongoClient[Any](settings["MONGO_URL"]) as mongo:
        yield mongo[settings["MONGO_DATABASE"]]


@pytest_asyncio.fixture
async def mongo(people: People, mongo_url: str) -> AsyncIterator[Mongo]:
    mongo = Mongo(mongo_url, people.server.env["MONGO_DATABASE"])
    yield mongo
    await mongo.close()


async def say(person: Person, talk: Any, count: int = 1) -> list[Any]:
    path = f"/conversations/{talk['id']}/messages"
    return [await person.ask("POST", path, {"content": f"{n}"}) for n in range(count)]


async def read(person: Person, message: Any) -> Any:
    return await person.ask("PUT", f"/messages/{message['id']}/read")


async def readers(person: Person, message: Any, limit: int = 200) -> list[Any]:
    path = f"/messages/{message['id']}/read?limit={limit}"
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await person.ask("GET", path + (cursor and f"&cursor={quote(cursor)}"))
        cursor = page["nextCursor"]
        assert cursor is None or len(page["items"]) == limit
        found += page["items"]
    return found


ranges = st.tuples(st.integers(1, LAST), st.integers(1, LAST)).map(sorted)


@given(ranges, st.integers(1, LAST))
def test_a_range_has_a_number_if_it_has_just_one_block_of_it(span: list[int], number: int) -> None:
    first, last = span
    common = set(blocks(first, last)) & set(blocks_with(number))
    assert len(common) == (first <= number <= last)
    assert len(blocks(first, last)) <= 2 * LAST.bit_length()


async def test_pages_of_readers_begin_with_the_first_one(people: People) -> None:
    chance = random.Random(3)
    alice, *crowd = people("alice", *(f"p{n:02}" for n in range(40)))
    group = await alice.group(*crowd)
    said = await say(alice, group, 3)
    model: list[dict[str, str]] = []

    async def reads(person: Person) -> None:
        up_to = chance.choice(said)
        if chance.random() < 0.3:
            model.append({said[up_to["seq"] - 1]["id"]: person.id})
            await read(person, up_to)
            return
        path = f"/conversations/{group['id']}/read"
        await person.ask("PUT", path, {"upToMessageId": up_to["id"]})
        model.append({message["id"]: person.id for message in said[: up_to["seq"]]})

    for person in chance.sample(crowd, 35):
        await reads(person)
    for message in said:
        expected = [each[message["id"]] for each in model if message["id"] in each]
        for limit in (1, 7, len(expected), len(expected) + 1, 200):
            found = await readers(alice, message, limit)
            assert [reader["userId"] for reader in found] == expected
            times = [reader["readAt"] for reader in found]
            assert times == sorted(times)


async def test_pages_leave_out_the_sender_and_those_who_left(people: People) -> None:
    alice, bob, carol, *crowd = people("alice", "bob", "carol", *(f"p{n:02}" for n in range(12)))
    group = await alice.group(bob, carol, *crowd)
    (message,) = await say(bob, group)
    for person in (alice, *crowd, carol):
        await read(person, message)
    path = f"/messages/{message['id']}/read"
    first = await alice.ask("GET", f"{path}?limit=1")
    assert [reader["userId"] for reader in first["items"]] == [alice.id]
    for person in crowd:
        await person.ask("DELETE", f"/conversations/{group['id']}/participants/{person.id}")
    rest = await alice.ask("GET", f"{path}?limit=1&cursor={first['nextCursor']}")
    assert [reader["userId"] for reader in rest["items"]] == [carol.id]
    assert rest["nextCursor"] is None
    assert (await crowd[0].refused("GET", path)).code == "NOT_FOUND"
    for query, field in (
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("emoji=x", "emoji"),
    ):
        refusal = await alice.refused("GET", f"{path}?{query}")
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", [field])


async def test_a_page_costs_the_same_in_a_large_conversation(
    people: People, database: Database[Any]
) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    said = await say(alice, group, 40)
    member = database.participants.find_one({"_id": f"{group['id']}:{bob.id}"})
    assert member is not None
    del member["_id"]
    chance, began = random.Random(5), now()
    crowd = [f"member-{group['id']}-{n:04}" for n in range(2_000)]
    database.participants.insert_many(
        [{**member, "_id": f"{group['id']}:{user}", "userId": user} for user in crowd]
    )
    receipts, expected = [], []
    for n, user in enumerate(crowd):
        middle = chance.randint(1, 39)
        for first, last, at in ((1, middle, n), (middle + 1, 40, 3_000 + n)):
            receipts.append(receipt_of(group, user, first, last, began + timedelta(seconds=at)))
        expected.append((3_000 + n if middle < 20 else n, user))
    database.receipts.insert_many(receipts)
    expected.sort()
    path = f"/messages/{said[19]['id']}/read?limit=100"
    cursor = ""
    for page in range(3):
        with profiled(people.server) as operations:
            answer = await alice.ask("GET", path + cursor)
        found = [reader["userId"] for reader in answer["items"]]
        assert found == [user for _, user in expected[page * 100 : page * 100 + 100]]
        assert sum(each.keys + each.documents for each in operations) < 900, operations
        cursor = f"&cursor={quote(answer['nextCursor'])}"
    assert len(await readers(alice, said[19])) == 2_000


def receipt_of(talk: Any, user_id: str, first: int, last: int, at: datetime) -> dict[str, Any]:
    where = {"conversationId": talk["id"], "userId": user_id, "from": first, "to": last}
    return {**where, "blocks": blocks(first, last), "at": at}


async def test_receipts_of_nodes_of_the_earlier_version_are_found(
    people: People, database: Database[Any]
) -> None:
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    group = await alice.group(bob, carol, dave)
    said = await say(alice, group, 3)
    for person in (bob, carol, dave):
        await read(person, said[1])
        database.receipts.update_many(
            {"conversationId": group["id"], "userId": {"$ne": carol.id}}, {"$unset": {"blocks": ""}}
        )
    for limit in (1, 2, 3, 4):
        found = await readers(alice, said[1], limit)
        assert [reader["userId"] for reader in found] == [bob.id, carol.id, dave.id]
    assert await readers(alice, said[2]) == []


def become_old(database: Database[Any], talk: Any, **where: Any) -> None:
    database.receipts.update_many(
        {"conversationId": talk["id"], **where}, {"$set": {"at": now() - LONG_AGO}}
    )


def is_due(database: Database[Any], talk: Any, person: Person) -> None:
    """The next mark of the participant merges receipts."""
    database.participants.update_one(
        {"_id": f"{talk['id']}:{person.id}"}, {"$set": {"readVersion": EVERY - 1}}
    )


async def test_old_receipts_are_merged_and_say_no_longer_when(
    people: People, database: Database[Any]
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    said: list[Any] = []
    for n in range(EVERY):
        said += await say(alice, group)
        await read(bob, said[-1])
        if n % 3 == 0:
            said += await say(bob, group)
        if n == EVERY - 10:
            become_old(database, group)
            await read(carol, said[0])
    await until(lambda: count_of(database, group, bob) == 10)
    old, new = said[0], [message for message in said if message["senderId"] == alice.id][-1]
    his, hers = await readers(alice, old)
    assert his == {"userId": bob.id, "readAt": None}
    assert hers["userId"] == carol.id
    (recent,) = await readers(alice, new)
    assert recent["readAt"] >= hers["readAt"]
    # A repeat is no new mark.
    assert (await read(bob, old))["userId"] == bob.id
    assert count_of(database, group, bob) == 10


def count_of(database: Database[Any], talk: Any, person: Person) -> int:
    where = {"conversationId": talk["id"], "userId": person.id}
    return database.receipts.count_documents(where)


async def test_what_was_sent_during_an_absence_is_not_read_after_a_merge(
    people: People, database: Database[Any]
) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    path = f"/conversations/{group['id']}/participants"
    before = await say(alice, group, 2)
    for message in before:
        await read(bob, message)
    await bob.ask("DELETE", f"{path}/{bob.id}")
    meanwhile = await say(alice, group, 2)
    await alice.ask("POST", path, {"userIds": [bob.id]})
    after = await say(alice, group, 3)
    for message in after[:2]:
        await read(bob, message)
    become_old(database, group)
    is_due(database, group, bob)
    await read(bob, after[2])
    await until(lambda: count_of(database, group, bob) == 3)
    null = [{"userId": bob.id, "readAt": None}]
    for message in (*before, *after[:2]):
        assert await readers(alice, message) == null
    for message in meanwhile:
        assert await readers(alice, message) == []
    (last,) = await readers(alice, after[2])
    assert last["readAt"] is not None


async def test_what_is_ahead_of_the_mark_keeps_its_time(
    people: People, database: Database[Any]
) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    said = await say(alice, group, 6)
    for n in (0, 1, 4):
        await read(bob, said[n])
    become_old(database, group)
    is_due(database, group, bob)
    await read(bob, said[5])
    await until(lambda: count_of(database, group, bob) == 3)
    times = [(await readers(alice, said[n]))[0]["readAt"] for n in (0, 1, 4, 5)]
    assert [at is None for at in times] == [True, True, False, False]
    assert await readers(alice, said[3]) == []


async def test_receipts_are_merged_once_by_two_nodes_and_are_bounded(
    people: People, database: Database[Any], mongo: Mongo
) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    where = {"conversationId": group["id"], "userId": bob.id}
    recent = [
        receipt_of(group, bob.id, seq, seq, now() - timedelta(seconds=MAX_RECEIPTS - seq))
        for seq in range(1, MAX_RECEIPTS + 1)
    ]
    database.receipts.insert_many(recent)
    member = {**where, "readVersion": EVERY - 1}
    nodes = [Merging(mongo, Unread(mongo), 30) for _ in range(2)]
    await asyncio.gather(*(node.after_mark(member, MAX_RECEIPTS) for node in nodes))
    left = list(database.receipts.find(where).sort("from"))
    assert [(left[0]["from"], left[0]["to"], left[0]["at"])] == [(1, AT_ONCE, EPOCH)]
    assert [doc["from"] for doc in left[1:]] == list(range(AT_ONCE + 1, MAX_RECEIPTS + 1))
    # These are fewer, and not old: their times are kept.
    await nodes[0].after_mark(member, MAX_RECEIPTS)
    assert count_of(database, group, bob) == len(left)
