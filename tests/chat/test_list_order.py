"""The order of a user's conversations, in small conversations and in large ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pymongo
import pytest
import pytest_asyncio
from pymongo.database import Database

from chatserver.clock import from_unix
from chatserver.mongo.schema import membership
from tests.conftest import Starter
from tests.support.patience import PATIENCE_S
from tests.support.people import People, Person
from tests.support.servers import ChatServer, chat_server

LARGE = 4
STEPS = 240
MINUTE = 60_000


@pytest_asyncio.fixture(scope="module")
async def two_nodes(
    mongo_url: str, redis_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[ChatServer]]:
    folder, database = tmp_path_factory.mktemp("lists"), f"lists-{worker}"
    settings = {"REDIS_URL": redis_url, "LARGE_CONVERSATION": str(LARGE)}
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                chat_server(mongo_url, database, folder / name, **settings)
            )
            for name in ("a", "b")
        ]


def database_of(client: pymongo.MongoClient[Any], server: ChatServer) -> Database[Any]:
    return client[server.env["MONGO_DATABASE"]]


async def listed(person: Person, limit: int) -> list[str]:
    found: list[str] = []
    path: str | None = f"/conversations?limit={limit}"
    while path:
        page = await person.ask("GET", path)
        found += [talk["id"] for talk in page["items"]]
        cursor = page["nextCursor"]
        path = cursor and f"/conversations?limit={limit}&cursor={cursor}"
    return found


async def becomes(model: Model, person: Person) -> None:
    """Waits until a list equals the model: it follows what other nodes do within half a second."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await listed(person, 3) == model.of(person):
                return
            await asyncio.sleep(0.1)


class Model:
    """Which conversations there are, who participates, and when each was active last."""

    def __init__(self) -> None:
        self.active: dict[str, str] = {}
        self.members: dict[str, dict[str, Person]] = {}

    def of(self, person: Person) -> list[str]:
        mine = [talk for talk, members in self.members.items() if person.id in members]
        return sorted(mine, key=lambda talk: (self.active[talk], talk), reverse=True)


async def test_lists_equal_a_model_whatever_happens(
    two_nodes: list[ChatServer], people_of: Callable[[ChatServer], People]
) -> None:
    chance = random.Random(7)
    people = people_of(two_nodes[0])
    everybody: list[Person] = people("alice", "bob", *(f"p{n}" for n in range(7)))
    owner = everybody[0]
    model = Model()
    crossings = 0
    for n in range(8):
        size = (1, 3, 4, 6)[n % 4]
        others = chance.sample(everybody[1:], size)
        talk = await owner.at(two_nodes[n % 2]).group(*others)
        model.active[talk["id"]] = talk["createdAt"]
        model.members[talk["id"]] = {person.id: person for person in (owner, *others)}

    async def step(talk: str) -> None:
        nonlocal crossings
        members, node = model.members[talk], chance.choice(two_nodes)
        what = chance.choice(["send", "send", "join", "leave"])
        if what == "send":
            sender = chance.choice(list(members.values())).at(node)
            said = await sender.ask("POST", f"/conversations/{talk}/messages", {"content": "Hi"})
            model.active[talk] = said["createdAt"]
            return
        strangers = [person for person in everybody if person.id not in members]
        guests = [person for person in members.values() if person is not owner]
        path = f"/conversations/{talk}/participants"
        before = len(members) > LARGE
        if what == "join" and strangers:
            some = chance.sample(strangers, chance.randint(1, len(strangers)))
            await owner.at(node).ask("POST", path, {"userIds": [person.id for person in some]})
            members |= {person.id: person for person in some}
        elif what == "leave" and guests:
            gone = chance.choice(guests)
            await gone.at(node).ask("DELETE", f"{path}/{gone.id}")
            del members[gone.id]
        crossings += before != (len(members) > LARGE)

    for _ in range(STEPS // 4):
        # At the same time in different conversations, so that several nodes write.
        await asyncio.gather(*map(step, chance.sample(list(model.members), 4)))
    assert crossings > 10

    for person in everybody:
        for node in two_nodes:
            await becomes(model, person.at(node))
    # Then the rows alone have the order.
    await asyncio.sleep(14)
    for person in everybody:
        assert await listed(person.at(two_nodes[0]), 3) == model.of(person)
    with pymongo.MongoClient[Any](two_nodes[0].env["MONGO_URL"]) as client:
        rows = database_of(client, two_nodes[0]).memberships
        for talk, members in model.members.items():
            placed = [row.get("activityAt") for row in rows.find({"conversationId": talk})]
            assert len(placed) == len(members)
            assert (set(placed) == {None}) == (len(members) > LARGE), "not a time per member"
            assert len(set(placed)) == 1


async def test_on_the_node_of_a_send_the_conversation_comes_first_at_once(
    two_nodes: list[ChatServer], people_of: Callable[[ChatServer], People]
) -> None:
    alice, *others = people_of(two_nodes[0])("alice", *(f"p{n}" for n in range(6)))
    small, large = await alice.group(*others[:1]), await alice.group(*others)
    for talk in (small, large) * 10:
        path = f"/conversations/{talk['id']}/messages"
        await others[0].ask("POST", path, {"content": "Hi"})
        page = await alice.ask("GET", "/conversations?limit=1")
        assert [(each["id"], each["lastSeq"] > 0) for each in page["items"]] == [(talk["id"], True)]


async def test_a_cursor_is_stable_while_conversations_move(
    two_nodes: list[ChatServer], people_of: Callable[[ChatServer], People]
) -> None:
    alice, *others = people_of(two_nodes[0])("alice", *(f"p{n}" for n in range(6)))
    talks = [await alice.group(*others[: 6 if n % 2 else 1], name=str(n)) for n in range(9)]
    names = [str(n) for n in reversed(range(9))]
    page = await alice.ask("GET", "/conversations?limit=4")
    assert [talk["name"] for talk in page["items"]] == names[:4]
    for talk in (talks[6], talks[7], talks[1], talks[0]):
        await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Hi"})
    rest = await alice.ask("GET", f"/conversations?limit=4&cursor={page['nextCursor']}")
    assert [talk["name"] for talk in rest["items"]] == ["4", "3", "2"], (
        "those that moved up are not"
    )
    assert rest["nextCursor"] is None
    assert (await alice.refused("GET", "/conversations?cursor=x")).code == "VALIDATION_FAILED"


async def test_a_locked_conversation_holds_up_no_list(
    two_nodes: list[ChatServer], people_of: Callable[[ChatServer], People]
) -> None:
    """A process that stalls in a transaction keeps its locks."""
    alice, bob, carol = people_of(two_nodes[0])("alice", "bob", "carol")
    locked, free = await alice.group(bob), await alice.group(carol)
    with pymongo.MongoClient[Any](two_nodes[0].env["MONGO_URL"]) as client:
        rows = database_of(client, two_nodes[0]).memberships
        with client.start_session() as session, session.start_transaction():
            rows.update_one(
                {"_id": f"{bob.id}:{locked['id']}"}, {"$set": {"hides": True}}, session=session
            )
            for talk in (free, locked):
                path = f"/conversations/{talk['id']}/messages"
                await alice.ask("POST", path, {"content": "Hi"})
            for person in (alice, carol):
                assert free["id"] in await listed(person, 5)
            assert (await listed(bob, 5)) == [locked["id"]]
            session.abort_transaction()
    async with asyncio.timeout(PATIENCE_S):
        while await listed(alice, 5) != [locked["id"], free["id"]]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_the_limit_of_large_conversations_can_change(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(LARGE_CONVERSATION="3")
    alice, *others = people_of(server)("alice", *(f"p{n}" for n in range(5)))
    talks = [await alice.group(*others[:n], name=str(n)) for n in (1, 2, 3, 4, 5)]
    order = ["5", "4", "3", "2", "1"]
    with pymongo.MongoClient[Any](server.env["MONGO_URL"]) as client:
        database = database_of(client, server)
        for limit, large in ((2, {"2", "3", "4", "5"}), (4, {"4", "5"})):
            assert await server.stop() == 0
            server.env["LARGE_CONVERSATION"] = str(limit)
            await server.start()
            for name in ("3", "5", "1"):
                (talk,) = (talk for talk in talks if talk["name"] == name)
                await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Hi"})
                order = [name, *(each for each in order if each != name)]
                page = await alice.ask("GET", "/conversations")
                assert [each["name"] for each in page["items"]] == order
                assert {each["name"] for each in page["items"] if each["isLarge"]} == large
            without = database.memberships.distinct("conversationId", {"activityAt": None})
            assert {talk["name"] for talk in talks if talk["id"] in without} == large


async def test_a_page_costs_the_same_for_few_and_for_many_conversations(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start()
    few, many = people_of(server)("few", "many")
    with pymongo.MongoClient[Any](server.env["MONGO_URL"]) as client:
        database = database_of(client, server)
        for person, conversations in ((few, 50), (many, 5_000)):
            seed(database, person.id, conversations)
        database.command("profile", 2)
        for path, items in (("", 20), (f"&cursor={30 * MINUTE}.{many.id}-0", 20)):
            examined: list[int] = []
            for person in (few, many):
                at = f"/conversations?limit=20{path}"
                assert len((await person.ask("GET", at))["items"]) == items
                (read,) = database.system.profile.find(
                    {"command.aggregate": "memberships", "op": "command"},
                    sort=[("ts", -1)],
                    limit=1,
                )
                examined.append(read["keysExamined"] + read["docsExamined"])
            assert examined[1] <= examined[0] * 1.2, examined
            assert examined[0] < 400, examined


def seed(database: Database[Any], user_id: str, conversations: int) -> None:
    """Stores conversations of a user, all of which were active at about the same time."""
    rows: list[Any] = []
    talks: list[Any] = []
    for n in range(conversations):
        at = from_unix((n * 50 // conversations) * MINUTE / 1000)
        talk = f"{user_id}-{n}"
        given = {"type": "group", "name": None, "avatarUrl": None, "createdBy": user_id}
        times = dict.fromkeys(("createdAt", "updatedAt", "activityAt"), at)
        talks.append({"_id": talk, **given, **times, "memberCount": 1, "events": 0, "countedAt": 0})
        member = {"conversationId": talk, "userId": user_id, "role": "owner", "lastReadSeq": 0}
        rows.append({"_id": f"{talk}:{user_id}", **member, "joinedAt": at})
    database.conversations.insert_many(talks)
    database.participants.insert_many(rows)
    database.memberships.insert_many(
        membership(row, {"activityAt": row["joinedAt"]}) for row in rows
    )
