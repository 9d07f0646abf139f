"""Users whom somebody has only named are forgotten a day later, unless a conversation has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest_asyncio

from chatserver.chat.job import job_id
from chatserver.chat.users import UNSEEN
from chatserver.clock import now
from chatserver.mongo import Mongo
from tests.support.patience import until
from tests.support.people import People, Person

LONG_AGO = timedelta(days=2)


@pytest_asyncio.fixture
async def mongo(people: People, mongo_url: str) -> AsyncIterator[Mongo]:
    """The database of the nodes."""
    mongo = Mongo(mongo_url, people.server.env["MONGO_DATABASE"])
    yield mongo
    await mongo.close()


async def days_pass(mongo: Mongo, *users: Person) -> None:
    """Lets two days pass for these users, and waits until a node has looked for unseen ones since."""
    ids = [user.id for user in users]
    old = {"_id": {"$in": ids}, "namedAt": {"$exists": True}}
    await mongo.users.update_many(old, {"$set": {"namedAt": now() - LONG_AGO}})
    job = {"_id": job_id(UNSEEN, "")}
    await mongo.jobs.update_one(job, {"$set": {"runAt": now() - LONG_AGO}})
    await until(lambda: mongo.jobs.find_one({**job, "runAt": {"$lt": now()}}), None)


async def exist(people: People, *users: Person) -> list[bool]:
    answers = [await people.master("GET", f"/users/{user.id}") for user in users]
    assert {status for status, _ in answers} <= {200, 404}
    return [status == 200 for status, _ in answers]


async def test_named_users_in_no_conversation_are_forgotten(people: People, mongo: Mongo) -> None:
    alice, gone, member, came, synced, deleted, older = everyone = people(
        "alice", "gone", "member", "came", "synced", "deleted", "older"
    )
    talk = await alice.group(*everyone[1:])
    await came.connect()
    await people.master("POST", "/users/sync", {"externalUserId": synced.id})
    # By a node of an earlier version.
    await mongo.users.update_one({"_id": older.id}, {"$set": {"name": "Older"}})
    for user in (gone, came, synced, older):
        await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{user.id}")
    assert (await people.master("DELETE", f"/users/{deleted.id}"))[0] == 204
    await days_pass(mongo, *everyone)
    assert await exist(people, *everyone) == [True, False, True, True, True, True, True]
    assert (await people.master("GET", f"/users/{deleted.id}"))[1]["status"] == "deleted"
    # A user who was forgotten can come, and be named, like one who was never here.
    await alice.ask("POST", f"/conversations/{talk['id']}/participants", {"userIds": [gone.id]})
    assert await exist(people, gone) == [True]
    # One who has left everything is forgotten a day after that was noticed.
    await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{member.id}")
    assert await exist(people, member) == [True]
    await days_pass(mongo, member, gone)
    assert await exist(people, member, gone) == [False, True]


async def test_a_user_who_is_named_again_is_kept_for_another_day(
    people: People, mongo: Mongo
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{bob.id}")
    old = now() - LONG_AGO
    await mongo.users.update_one({"_id": bob.id}, {"$set": {"namedAt": old}})
    talk = await alice.group(bob)
    named = await mongo.users.find_one({"_id": bob.id})
    assert named
    assert named["namedAt"] > old + timedelta(days=1)
