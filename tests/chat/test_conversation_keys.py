"""Two users share one direct conversation, and a set of users one private group, as long as it exists."""

from __future__ import annotations

import asyncio
from typing import Any

import pymongo

from tests.support.people import People, Person


def keys_of(client: pymongo.MongoClient[Any], person: Person, *talks: Any) -> list[str]:
    """Returns the conversations among these that have a key."""
    database = client[person.server.env["MONGO_DATABASE"]]
    ids = [talk["id"] for talk in talks]
    found = database.conversation_keys.find({"conversationId": {"$in": ids}})
    return sorted(doc["conversationId"] for doc in found)


async def private(person: Person, *others: Person) -> Any:
    user_ids = [other.id for other in others]
    return await person.ask("POST", "/conversations/private", {"userIds": user_ids})


async def test_everybody_who_opens_a_conversation_at_once_gets_the_same(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    for round_ in ([alice, bob], [alice, bob, carol]):
        opened = [
            private(person, *(other for other in round_ if other is not person))
            for person in round_ * 4
        ]
        assert len({talk["id"] for talk in await asyncio.gather(*opened)}) == 1
    directs = [person.direct(other) for person, other in ((alice, bob), (bob, alice)) * 4]
    assert len({talk["id"] for talk in await asyncio.gather(*directs)}) == 1


async def test_a_key_ends_with_its_conversation(
    people: People, shared_mongo: pymongo.MongoClient[Any]
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    first = await private(alice, bob)
    assert keys_of(shared_mongo, alice, first) == [first["id"]]
    await alice.ask("DELETE", f"/conversations/{first['id']}")
    second = await private(alice, bob)
    assert second["id"] != first["id"]
    for person in (alice, bob):
        await person.ask("DELETE", f"/conversations/{second['id']}/participants/{person.id}")
    third = await private(bob, alice)
    assert third["id"] != second["id"]
    assert keys_of(shared_mongo, alice, first, second, third) == [third["id"]]

    # With other members it is another group, and the next one for these users is new.
    await bob.ask("POST", f"/conversations/{third['id']}/participants", {"userIds": [carol.id]})
    fourth = await private(alice, bob)
    assert fourth["id"] != third["id"]
    assert keys_of(shared_mongo, alice, third, fourth) == [fourth["id"]]
    assert (await private(alice, bob))["id"] == fourth["id"]


async def test_a_direct_conversation_keeps_its_key_until_both_users_are_deleted(
    people: People, shared_mongo: pymongo.MongoClient[Any]
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    assert (await people.master("DELETE", f"/users/{bob.id}"))[0] == 204
    assert keys_of(shared_mongo, alice, talk) == [talk["id"]]
    back = {"externalUserId": bob.id, "status": "active"}
    assert (await people.master("POST", "/users/sync", back))[0] == 200
    assert (await bob.direct(alice))["id"] == talk["id"]
    for person in (alice, bob):
        assert (await people.master("DELETE", f"/users/{person.id}"))[0] == 204
    assert keys_of(shared_mongo, alice, talk) == []
