"""Every change of the members of a conversation is in the memberships of its users, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymongo

from chatserver.chat.memberships import Memberships
from chatserver.chat.recency import Recency
from chatserver.clock import now
from chatserver.mongo import Mongo
from tests.conftest import Starter
from tests.support import large
from tests.support.memberships import difference
from tests.support.people import People
from tests.support.servers import ChatServer


async def test_memberships_say_what_participants_say(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(LARGE_CONVERSATION="3")
    people = people_of(server)
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    with pymongo.MongoClient[Any](server.env["MONGO_URL"]) as client:
        database = client[server.env["MONGO_DATABASE"]]

        async def does(person: Any, method: str, path: str, body: Any = None) -> Any:
            answer = await person.ask(method, path, body)
            assert difference(database) == [], (method, path)
            return answer

        talk = await does(
            alice, "POST", "/conversations", {"type": "group", "participantIds": [bob.id]}
        )
        path = f"/conversations/{talk['id']}"
        await does(bob, "POST", "/conversations/direct", {"userId": carol.id})
        sent = await does(alice, "POST", f"{path}/messages", {"content": "For Alice and Bob"})
        for _ in range(2):
            await does(bob, "DELETE", f"/messages/{sent['id']}?scope=self")
        both = {"userIds": [carol.id, dave.id]}
        assert (await does(alice, "POST", f"{path}/participants", both))["isLarge"]
        await does(alice, "DELETE", f"{path}/participants/{carol.id}")
        await does(bob, "DELETE", f"{path}/participants/{bob.id}")
        await does(alice, "POST", f"{path}/participants", {"userIds": [bob.id]})
        assert database.memberships.count_documents({"userId": bob.id, "hides": True}) == 1, (
            "what he hid outlasts his absence"
        )
        (listed,) = [
            each
            for each in (await bob.ask("GET", "/conversations"))["items"]
            if each["id"] == talk["id"]
        ]
        assert listed["lastMessage"]["isDeleted"]
        assert (await people.master("DELETE", f"/users/{bob.id}"))[0] == 204
        assert difference(database) == []
        assert database.memberships.count_documents({"userId": bob.id}) == 0
        await does(alice, "DELETE", path)
        assert database.memberships.count_documents({"conversationId": talk["id"]}) == 0


async def test_a_repair_completes_a_large_conversation_in_parts(
    people: People, mongo_url: str
) -> None:
    """Here with what nodes of an earlier version leave: memberships are missing, or those of users who have left remain."""
    mongo = Mongo(mongo_url, people.server.env["MONGO_DATABASE"])
    alice = people("alice")
    talk = {"conversationId": (await large.channel(mongo, 1_200, alice))["id"]}
    users = [doc["userId"] async for doc in mongo.participants.find(talk).sort("_id")]

    async def mirrored() -> bool:
        participants, memberships = [
            [(doc["userId"], doc.get("hides")) async for doc in rows.find(talk).sort("userId")]
            for rows in (mongo.participants, mongo.memberships)
        ]
        return participants == memberships

    assert await mirrored()
    some = {"userId": {"$in": users[::3]}, **talk}
    await mongo.memberships.delete_many(some)
    await mongo.participants.delete_many({"userId": {"$in": [users[1], *users[-300:]]}, **talk})
    await mongo.participants.update_one({"userId": users[2], **talk}, {"$set": {"hides": True}})
    assert not await mirrored()
    await Memberships(mongo, Recency(mongo, large=200), lambda: True).repair(now())
    assert await mirrored()
    assert await mongo.memberships.count_documents({**talk, "activityAt": {"$exists": True}}) == 0
    await mongo.close()
