"""The Master Service receives every event, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatserver.clock import now
from chatserver.mongo import Mongo
from tests.conftest import Starter
from tests.support.patience import until
from tests.support.people import People
from tests.support.receiver import Receiver
from tests.support.servers import ChatServer
from tests.support.shapes import A_TIME


async def test_every_event_of_a_conversation_is_delivered(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url)
        alice, bob, carol = people_of(server)("alice", "bob", "carol")
        desk = await alice.connect()
        talk = await alice.group(bob, name="Plans")
        first = await desk.do("message:send", {"conversationId": talk["id"], "content": "Hello"})
        await receiver.until(lambda: len(receiver.by_key[talk["id"]]) >= 2)
        await desk.do("message:edit", {"messageId": first["id"], "content": "Hello!"})
        # A pending event is sent with the current state of its message, so react only after it was sent.
        await receiver.until(lambda: len(receiver.by_key[talk["id"]]) >= 3)
        await desk.do("reaction:add", {"messageId": first["id"], "emoji": "👍"})
        await desk.do("reaction:remove", {"messageId": first["id"], "emoji": "👍"})
        path = f"/conversations/{talk['id']}"
        await alice.ask("POST", f"{path}/participants", {"userIds": [carol.id]})
        await desk.do("message:send", {"conversationId": talk["id"], "content": "Welcome"})
        await alice.ask("DELETE", f"{path}/participants/{carol.id}")
        await desk.do("message:delete", {"messageId": first["id"]})
        await alice.ask("DELETE", path)

        heard = receiver.by_key[talk["id"]]
        await receiver.until(lambda: len(heard) >= 10)
        told: list[tuple[str, dict[str, Any]]] = [(event["type"], event["data"]) for event in heard]
        assert [name for name, _ in told] == [
            "conversation.created",
            "message.created",
            "message.updated",
            "reaction.added",
            "reaction.removed",
            "participant.added",
            "message.created",
            "participant.removed",
            "message.deleted",
            "conversation.deleted",
        ]
        assert [data["rev"] for _, data in told if "rev" in data] == [1, 2, 3, 4, 5, 6]
        assert told[0][1] == talk
        assert told[1][1] == first
        edited = told[2][1]
        assert edited == {
            **first,
            "content": "Hello!",
            "isEdited": True,
            "rev": 2,
            "updatedAt": edited["updatedAt"],
        }
        on_it = {"messageId": first["id"], "conversationId": talk["id"]}
        thumb = {**on_it, "emoji": "👍", "userId": alice.id, "timestamp": A_TIME}
        assert told[3][1] == {**thumb, "totalCount": 1, "rev": 3}
        assert told[4][1] == {**thumb, "totalCount": 0, "rev": 4}
        who = {"conversationId": talk["id"], "userId": carol.id, "timestamp": A_TIME}
        assert told[5][1] == {**who, "role": "member"}
        assert told[7][1] == {**who, "removedBy": alice.id}
        assert told[8][1] == {
            **on_it,
            "rev": 6,
            "scope": "everyone",
            "deletedBy": alice.id,
            "deletedAt": A_TIME,
        }
        assert told[9][1] == {
            "conversationId": talk["id"],
            "deletedBy": alice.id,
            "deletedAt": A_TIME,
        }
        assert len({event["id"] for event in receiver.events}) == len(receiver.events)
        assert receiver.repeats == 0


async def test_presence_events_are_delivered(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, PRESENCE_GRACE_S="0.1")
        alice = people_of(server)("alice")
        heard = receiver.by_key[alice.id]
        for _ in range(3):
            phone = await alice.connect()
            await receiver.until(lambda: len(heard) % 2 == 1)
            await phone.close()
            await receiver.until(lambda: len(heard) % 2 == 0)
        assert [event["type"] for event in heard] == ["user.online", "user.offline"] * 3
        assert heard[0]["data"] == {"userId": alice.id, "timestamp": A_TIME}
        assert heard[1]["data"] == {"userId": alice.id, "lastSeen": A_TIME, "timestamp": A_TIME}


async def test_without_an_endpoint_no_event_is_kept(
    start: Starter, people_of: Callable[[ChatServer], People], mongo_url: str
) -> None:
    """They were kept for a week, though nobody could ever receive them."""
    server = await start()
    alice, bob = people_of(server)("alice", "bob")
    device = await alice.connect()
    talk = await alice.group(bob)
    await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{bob.id}")
    await device.close()
    mongo = Mongo(mongo_url, server.env["MONGO_DATABASE"])
    went = {"_id": alice.id, "presenceChanges": 2}
    await until(lambda: mongo.users.count_documents(went), 1)
    assert await mongo.outbox.count_documents({}) == 0
    await mongo.close()


async def test_the_entries_of_a_deleted_conversation_expire_whichever_version_deleted_it(
    start: Starter, people_of: Callable[[ChatServer], People], mongo_url: str
) -> None:
    server = await start()
    alice = people_of(server)("alice")
    talk = await alice.group()
    await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Hello"})
    await alice.ask("DELETE", f"/conversations/{talk['id']}")
    mongo = Mongo(mongo_url, server.env["MONGO_DATABASE"])
    # As a server of an earlier version leaves it behind.
    await server.stop()
    await mongo.jobs.delete_many({"subject": talk["id"]})
    await mongo.ended.insert_one({"_id": talk["id"], "at": now()})
    await server.start()
    entries = {"conversationId": talk["id"]}
    expiring = {**entries, "expiresAt": {"$exists": True}}
    await until(lambda: mongo.log.count_documents(expiring), 2)
    assert await mongo.ended.count_documents({}) == 0
    await mongo.close()
