"""Reactions of many users to one message: exact on every node, and bounded in the message."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pymongo
import pytest
from pymongo.database import Database

from tests.support.people import People, Person, devices
from tests.support.processes import until
from tests.support.profiled import of, profiled

SHOWN = 50
LIKE, HEART, PLAIN_HEART = "👍", "❤\ufe0f", "❤"
Lists = dict[str, list[str]]


@pytest.fixture
def database(people: People) -> Iterator[Database[Any]]:
    settings = people.server.env
    with pymongo.MongoClient[Any](settings["MONGO_URL"]) as mongo:
        yield mongo[settings["MONGO_DATABASE"]]


async def crowd_in(people: People, size: int) -> tuple[Person, list[Person], Any]:
    """Returns the owner of a group, its other members, and a message."""
    alice, *crowd = people("alice", *(f"p{n:03}" for n in range(size)))
    group = await alice.group(*crowd)
    path = f"/conversations/{group['id']}/messages"
    return alice, crowd, await alice.ask("POST", path, {"content": "Cake?"})


async def react(person: Person, message: Any, emoji: str = LIKE) -> Any:
    return await person.ask("POST", f"/messages/{message['id']}/reactions", {"emoji": emoji})


async def unreact(person: Person, message: Any, emoji: str = LIKE) -> Any:
    return await person.ask("DELETE", f"/messages/{message['id']}/reactions/{quote(emoji)}")


async def in_message(person: Person, message: Any) -> Any:
    return (await person.ask("GET", f"/messages/{message['id']}"))["reactions"]


async def listed(person: Person, message: Any, limit: int = 20, emoji: str | None = None) -> Lists:
    """Returns the users of each emoji, from all pages."""
    found: Lists = {}
    path = f"/messages/{message['id']}/reactions?limit={limit}"
    path += f"&emoji={quote(emoji)}" if emoji else ""
    cursor: str | None = ""
    while cursor is not None:
        page = await person.ask("GET", path + (cursor and f"&cursor={quote(cursor)}"))
        cursor = page["nextCursor"]
        assert cursor is None or sum(len(item["userIds"]) for item in page["items"]) == limit
        for item in page["items"]:
            found.setdefault(item["emoji"], []).extend(item["userIds"])
    return found


def shown(lists: Lists) -> Any:
    return [
        {"emoji": emoji, "count": len(users), "userIds": users[:SHOWN]}
        for emoji, users in lists.items()
        if users
    ]


async def test_a_message_shows_the_first_users_and_counts_all(
    people: People, database: Database[Any]
) -> None:
    alice, crowd, message = await crowd_in(people, 120)
    desk = await alice.connect()
    users = [person.id for person in crowd]
    for n, person in enumerate(crowd, 1):
        assert (await react(person, message))["totalCount"] == n
    await react(crowd[0], message, HEART)
    await react(alice, message, PLAIN_HEART)
    lists = {LIKE: users, HEART: [users[0], alice.id]}
    assert await in_message(alice, message) == shown(lists)
    for limit in (1, 50, 120, 121, 122, 200):
        assert await listed(alice, message, limit) == lists
    assert await listed(alice, message, 7, PLAIN_HEART) == {HEART: lists[HEART]}
    assert await listed(alice, message, 7, "🎉") == {}
    told = await desk.all_heard("reaction:added")
    assert [each["totalCount"] for each in told] == [*range(1, 121), 1, 2]

    # A repeat changes nothing, whether the user is shown or not. Who is removed makes place for the next one.
    for n in (3, 119):
        assert (await react(crowd[n], message))["totalCount"] == 120
    for n, left in ((3, 119), (3, 119), (100, 118), (100, 118)):
        assert (await unreact(crowd[n], message))["totalCount"] == left
    lists[LIKE] = [user for user in users if user not in (users[3], users[100])]
    assert await in_message(alice, message) == shown(lists)
    assert (await react(crowd[3], message))["totalCount"] == 119
    lists[LIKE].append(users[3])
    assert await listed(alice, message) == lists

    # The list ends, and begins again.
    for person in crowd:
        await unreact(person, message)
    assert await in_message(alice, message) == shown({HEART: lists[HEART]})
    stored = database.log.find_one({"_id": message["id"]})
    assert stored is not None
    assert "listed" not in stored
    assert (await react(crowd[7], message))["totalCount"] == 1
    assert await listed(alice, message) == {HEART: lists[HEART], LIKE: [users[7]]}


async def test_pages_miss_nobody_who_stays_while_others_change_their_minds(people: People) -> None:
    alice, crowd, message = await crowd_in(people, 70)
    for size in (30, 70):
        for person in crowd[:size]:
            await react(person, message)
        path = f"/messages/{message['id']}/reactions?limit=10"
        page = await alice.ask("GET", path)
        seen = page["items"][0]["userIds"]
        # The last user of the page among them.
        for person in crowd[5:10]:
            await unreact(person, message)
        while page["nextCursor"] is not None:
            page = await alice.ask("GET", f"{path}&cursor={quote(page['nextCursor'])}")
            seen += page["items"][0]["userIds"]
        assert {person.id for person in (*crowd[:5], *crowd[10:size])} <= set(seen)
        assert size <= SHOWN or len(seen) == len(set(seen)), "numbers in a list do not change"


async def test_bad_cursors_and_outsiders_are_refused(people: People) -> None:
    alice, (bob, carol), message = await crowd_in(people, 2)
    stranger = people("stranger")
    for person in (alice, bob, carol):
        await react(person, message)
    path = f"/messages/{message['id']}/reactions"
    cursor = (await alice.ask("GET", f"{path}?limit=1"))["nextCursor"]
    for query, field in (
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("emoji=nonsense", "emoji"),
        ("cursor=nonsense", "cursor"),
        (f"cursor={cursor[:12]}", "cursor"),
        ("cursor=", "cursor"),
        ("page=2", "page"),
    ):
        refusal = await alice.refused("GET", f"{path}?{query}")
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", [field]), query
    assert (await stranger.refused("GET", f"{path}?cursor={cursor}")).code == "NOT_FOUND"
    assert (await alice.refused("GET", f"/messages/{message['id']}0/reactions")).code == "NOT_FOUND"
    # A hidden and a deleted message have none.
    await bob.ask("DELETE", f"/messages/{message['id']}?scope=self")
    assert await bob.ask("GET", path) == {"items": [], "nextCursor": None}
    assert await listed(carol, message) == {LIKE: [alice.id, bob.id, carol.id]}
    await alice.ask("DELETE", f"/messages/{message['id']}")
    assert await carol.ask("GET", path) == {"items": [], "nextCursor": None}


async def test_random_changes_on_several_nodes_are_as_in_a_model(people: People) -> None:
    """Each user's own requests come one after another; those of different users meet."""
    chance = random.Random(7)
    alice, crowd, message = await crowd_in(people, 90)
    desk, phone = await devices(alice, alice)
    has: dict[str, set[str]] = {person.id: set() for person in crowd}
    changes = 0

    async def change_often(person: Person) -> None:
        nonlocal changes
        for step in range(5):
            emoji = LIKE if step == 0 else chance.choice((LIKE, LIKE, HEART))
            node = person.at(chance.choice(people.nodes.servers if people.nodes else []))
            adds = step == 0 or chance.random() < 0.7
            changes += adds != (emoji in has[person.id])
            answer = await (react if adds else unreact)(node, message, emoji)
            assert answer["userId"] == person.id
            (has[person.id].add if adds else has[person.id].discard)(emoji)

    await asyncio.gather(*(change_often(person) for person in crowd))
    told = [(name == "reaction:added", payload) for name, payload in await _reactions(desk)]
    assert told == [
        (name == "reaction:added", payload) for name, payload in await _reactions(phone)
    ]
    assert [payload["rev"] for _, payload in told] == list(range(2, changes + 2)), "each once"
    # The naive model: it does in turn what every socket was told.
    lists: Lists = {}
    for adds, payload in told:
        users = lists.setdefault(payload["emoji"], [])
        assert adds == (payload["userId"] not in users)
        (users.append if adds else users.remove)(payload["userId"])
        assert payload["totalCount"] == len(users)
        if not users:
            del lists[payload["emoji"]]
    assert len(lists[LIKE]) > SHOWN, "there is something to try"
    assert {user: {e for e, users in lists.items() if user in users} for user in has} == has
    for person in (alice, crowd[0]):
        assert await listed(person, message, 13) == lists
        assert await in_message(person, message) == shown(lists)


async def _reactions(device: Any) -> list[tuple[str, Any]]:
    await device.caught_up()
    return [each for each in device.heard if each[0] in ("reaction:added", "reaction:removed")]


async def test_users_whom_an_earlier_version_stored_in_the_message_are_listed_by_the_next_change(
    people: People, database: Database[Any]
) -> None:
    alice, (bob, carol), message = await crowd_in(people, 2)
    users = [f"old-{n}" for n in range(300)] + [bob.id]
    stored = {"reactions": [{"emoji": LIKE, "users": users}]}
    database.log.update_one({"_id": message["id"]}, {"$set": stored})
    assert await in_message(alice, message) == shown({LIKE: users})
    assert await listed(alice, message, 50) == {LIKE: users}

    assert (await react(carol, message))["totalCount"] == 302
    assert (await unreact(bob, message))["totalCount"] == 301
    users = [*users[:-1], carol.id]
    assert await in_message(alice, message) == shown({LIKE: users})
    assert await listed(alice, message, 50) == {LIKE: users}
    found = database.log.find_one({"_id": message["id"]})
    assert found is not None
    assert [len(each["users"]) for each in found["reactions"]] == [SHOWN]


async def test_what_a_node_of_the_earlier_version_changes_is_taken_over(
    people: People, database: Database[Any]
) -> None:
    alice, crowd, message = await crowd_in(people, 60)
    for person in crowd[:55]:
        await react(person, message)
    ids = [person.id for person in crowd]

    def old_node(users: list[str]) -> None:
        # It writes the users whom it sees, and knows nothing else.
        stored = {"reactions": [{"emoji": LIKE, "users": users}]}
        database.log.update_one({"_id": message["id"]}, {"$set": stored})

    # Two of those who are shown remove their reactions, a new user adds one, and so does another who had one.
    old_node([*ids[:3], *ids[5:SHOWN], ids[57], ids[52]])
    assert (await react(crowd[58], message))["totalCount"] == 55
    users = [*ids[:3], *ids[5:55], ids[57], ids[58]]
    assert await listed(alice, message) == {LIKE: users}
    assert await in_message(alice, message) == shown({LIKE: users})
    # It takes another form for another emoji.
    other_form = {"emoji": f"{LIKE}\ufe0f", "users": [ids[59]]}
    database.log.update_one({"_id": message["id"]}, {"$push": {"reactions": other_form}})
    assert (await react(crowd[56], message))["totalCount"] == 57
    users += [ids[59], ids[56]]
    assert await listed(alice, message) == {LIKE: users}
    assert await in_message(alice, message) == shown({LIKE: users})
    # Nobody is left of those who were shown.
    old_node([])
    database.log.update_one({"_id": message["id"]}, {"$unset": {"reactions": ""}})
    assert (await unreact(crowd[58], message))["totalCount"] == 6
    assert await listed(alice, message) == {LIKE: [*ids[52:55], ids[57], ids[59], ids[56]]}


async def test_a_deleted_message_or_conversation_leaves_no_list(
    people: People, database: Database[Any]
) -> None:
    alice, crowd, message = await crowd_in(people, 51)
    group = {"id": message["conversationId"]}
    other = await alice.ask("POST", f"/conversations/{group['id']}/messages", {"content": "Tea?"})
    for person in crowd:
        await react(person, message)
        await react(person, other)
    assert database.reactions.count_documents({"messageId": message["id"]}) == 51
    await alice.ask("DELETE", f"/messages/{message['id']}")
    await until(lambda: not database.reactions.count_documents({"messageId": message["id"]}))
    assert (await unreact(crowd[0], message))["totalCount"] == 0
    assert (
        await crowd[0].refused("POST", f"/messages/{message['id']}/reactions", {"emoji": LIKE})
    ).code == "CONFLICT"
    assert database.reactions.count_documents({"messageId": other["id"]}) == 51
    await alice.ask("DELETE", f"/conversations/{group['id']}")
    await until(lambda: not database.reactions.count_documents({"messageId": other["id"]}), 20)


async def test_the_work_of_a_reaction_and_of_a_page_does_not_grow(
    people: People, database: Database[Any]
) -> None:
    alice, (bob, carol), message = await crowd_in(people, 2)
    users = [f"user-{n}" for n in range(5_000)]
    stored = {"reactions": [{"emoji": LIKE, "users": users}]}
    database.log.update_one({"_id": message["id"]}, {"$set": stored})
    await react(bob, message)
    path = f"/messages/{message['id']}/reactions?limit=100"
    middle = (await alice.ask("GET", path))["nextCursor"]
    with profiled(people.server) as operations:
        assert (await react(carol, message))["totalCount"] == 5_002
        assert (await unreact(bob, message))["totalCount"] == 5_001
        page = await alice.ask("GET", f"{path}&cursor={quote(middle)}")
    assert page["items"] == [{"emoji": LIKE, "count": 5_001, "userIds": users[100:200]}]
    done = of(operations, "reactions")
    assert {each.name for each in done} == {"query", "update", "remove"}
    assert sum(each.keys + each.documents for each in done) < 300
    size = database.log.aggregate(
        [{"$match": {"_id": message["id"]}}, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}]
    ).next()["size"]
    assert size < 2_000
