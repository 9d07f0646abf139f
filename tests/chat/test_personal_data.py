"""The register of personal data has a row for everything that is stored, and its rows do what they say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import create_autospec

import pytest_asyncio

from chatserver import json_codec
from chatserver.chat.jobs import Jobs
from chatserver.chat.memberships import Memberships
from chatserver.chat.participants import Participants
from chatserver.chat.personal_data import IMPERSONAL, Kept, NotExported, PersonalData
from chatserver.chat.recency import Recency
from chatserver.chat.users import Users
from chatserver.mongo import Mongo
from chatserver.mongo.indexes import INDEXES
from tests.support.people import People, Person
from tests.support.shapes import A_TIME


@pytest_asyncio.fixture
async def data(people: People, mongo_url: str) -> AsyncIterator[PersonalData]:
    """The register, on the database of the nodes."""
    mongo = Mongo(mongo_url, people.server.env["MONGO_DATABASE"])
    memberships = Memberships(mongo, create_autospec(Recency), lambda: False)
    parts = create_autospec(Users), create_autospec(Participants), create_autospec(Jobs)
    yield PersonalData(mongo, memberships, *parts)
    await mongo.close()


async def say(person: Person, talk: dict[str, Any], text: str, **more: Any) -> Any:
    return await person.ask(
        "POST", f"/conversations/{talk['id']}/messages", {"content": text, **more}
    )


async def exported(data: PersonalData, person: Person) -> list[dict[str, Any]]:
    return [json.loads(json_codec.encode(line)) async for line in data.export(person.id)]


async def test_every_collection_is_registered(data: PersonalData) -> None:
    registered = [store.collection for store in data.stores]
    assert sorted([*registered, *IMPERSONAL]) == sorted(INDEXES)
    for store in data.stores:
        assert store.erase != Kept(""), f"{store.collection} has an eraser or a reason"
        assert store.export != NotExported(""), f"{store.collection} has lines or a reason"


async def test_an_export_has_everything_of_one_user_and_nothing_of_others(
    people: People, data: PersonalData
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    await people.master(
        "POST", "/users/sync", {"externalUserId": bob.id, "name": "Bob", "metadata": {"a": 1}}
    )
    lunch, walk = await alice.group(bob, carol, name="Lunch"), await alice.group(bob, name="Walk")
    hers = [await say(alice, lunch, f"of Alice {n}") for n in range(3)]
    his = [await say(bob, walk, "of Bob"), await say(bob, lunch, "also of Bob", metadata={"b": 2})]
    await bob.ask("PUT", f"/messages/{hers[1]['id']}/read")
    # A conversation that a user has left still has the messages and reads of that user.
    await bob.ask("DELETE", f"/conversations/{walk['id']}/participants/{bob.id}")

    lines = await exported(data, bob)
    assert [line["type"] for line in lines] == ["profile", "conversation", *["message"] * 2, "read"]
    profile, membership, *messages, read = lines
    assert profile == {
        "type": "profile",
        "externalUserId": bob.id,
        "name": "Bob",
        "avatarUrl": None,
        "status": "active",
        "metadata": {"a": 1},
        "lastSeen": None,
        "createdAt": A_TIME,
        "updatedAt": A_TIME,
    }
    assert membership == {
        "type": "conversation",
        "conversationId": lunch["id"],
        "userId": bob.id,
        "role": "member",
        "joinedAt": A_TIME,
        "lastReadSeq": 0,
    }
    by_id = sorted(({"type": "message", **message} for message in his), key=lambda m: m["id"])
    assert messages == by_id
    assert read == {
        "type": "read",
        "conversationId": lunch["id"],
        "fromSeq": 2,
        "toSeq": 2,
        "readAt": A_TIME,
    }
    assert [line["type"] for line in await exported(data, carol)] == ["profile", "conversation"]
    assert await exported(data, people("stranger")) == []


async def test_an_export_finds_messages_among_many_conversations(
    people: People, data: PersonalData, monkeypatch: Any
) -> None:
    monkeypatch.setattr("chatserver.chat.personal_data.CONVERSATIONS", 2)
    alice, bob = people("alice", "bob")
    talks = [await alice.group(bob, name=f"{n}") for n in range(5)]
    for talk in talks:
        await say(alice, talk, f"in {talk['name']}")
    lines = await exported(data, alice)
    found = [line["content"] for line in lines if line["type"] == "message"]
    assert sorted(found) == [f"in {n}" for n in range(5)]


async def test_a_deletion_removes_what_the_register_says_and_keeps_the_rest(
    people: People, data: PersonalData
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob, name="Lunch")
    await say(bob, talk, "of Bob")
    before = await exported(data, bob)
    assert (await people.master("DELETE", f"/users/{bob.id}"))[0] == 204
    profile, *rest = await exported(data, bob)
    assert profile["status"] == "deleted"
    assert rest == [line for line in before if line["type"] not in ("profile", "conversation")]
    erased = [store.collection for store in data.stores if not isinstance(store.erase, Kept)]
    assert erased == ["users", "participants", "memberships"]
