"""A node of a newer version says what this version does not know. It is taken for a lost message."""

from __future__ import annotations

import pymongo
from redis.asyncio import Redis

from chatserver.chat.message import entry_id, offset_of
from chatserver.clock import now
from chatserver.realtime.cluster.messages import NO_REQUEST, encode_update
from tests.support.exposition import samples, scrape
from tests.support.people import People
from tests.support.people_on_nodes import Spread
from tests.support.raw import Wire, history, when
from tests.support.redises import RedisServer
from tests.support.relays import lines
from tests.support.servers import ChatServer

NEWER = b"00112233445566ff"


async def unknown(server: ChatServer) -> float:
    return samples(await scrape(server))["chat_bus_unknown_total"]


async def test_unknown_messages_are_ignored_and_caught_up_on(
    own_redis: RedisServer, own_nodes: Spread, everyone: People
) -> None:
    alice, bob = everyone("alice", "bob")
    talk = await alice.group(bob)
    desk, phone = [
        await Wire.connect(person.at(own_nodes.servers[n])) for n, person in enumerate((alice, bob))
    ]
    sent = [await desk.do("message:send", {"conversationId": talk["id"], "content": "One"})]
    await phone.until(lambda: phone.told("message:new"))
    offset = offset_of(sent[0]["id"])

    redis: Redis
    async with own_redis.client() as redis:
        room, everybody = f"{own_nodes.prefix}r:{talk['id']}", f"{own_nodes.prefix}all"
        for channel in (room, everybody):
            for message in (b"z" + NEWER + NO_REQUEST + b"...", b"\xff", b""):
                await redis.publish(channel, message)
        # The next entry, with an effect that only newer nodes know before one that all know.
        text = b'[["pin",null,null],["emit",null,"2[\\"pinned\\",{}]"]]'
        await redis.publish(room, encode_update(NEWER, offset + 1, text))
        await redis.publish(
            everybody, b"u" + NEWER + NO_REQUEST + f"{talk['id']}\n{offset + 1:08x}".encode() + text
        )
    await own_nodes.settled()
    first, second, _ = own_nodes.servers
    assert (await unknown(first), await unknown(second)) == (8, 8)
    for server in (first, second):
        (line,) = lines(server, "ignored a message of a newer version")
        assert (line["level"], line["kind"]) == ("warning", "z")
    assert "pinned" not in phone.names, "an update is applied as a whole or not at all"

    sent.append(await desk.do("message:send", {"conversationId": talk["id"], "content": "Two"}))
    await phone.until(lambda: len(phone.told("message:new")) == 2)
    assert phone.told("message:new") == desk.told("message:new") == sent


async def test_an_entry_of_an_unknown_kind_is_passed_over(
    mongo_url: str, own_nodes: Spread, everyone: People
) -> None:
    alice, bob = everyone("alice", "bob")
    talk = await alice.group(bob)
    where = {"conversationId": talk["id"]}
    desk, phone = [
        await Wire.connect(person.at(own_nodes.servers[n])) for n, person in enumerate((alice, bob))
    ]
    sent = [await desk.do("message:send", {**where, "content": "One"})]
    await phone.until(lambda: phone.told("message:new"))

    with pymongo.MongoClient(mongo_url) as client:
        log = client[desk.person.server.env["MONGO_DATABASE"]].log
        # A newer node has pinned the message, and could not publish that.
        pinned = {"kind": "pin", "messageId": sent[0]["id"], "lastSeq": 1, "lastRev": 2}
        at = {"_id": entry_id(talk["id"], offset_of(sent[0]["id"]) + 1), "at": now()}
        log.insert_one({**pinned, **where, **at})
    sent += [await desk.do("message:send", {**where, "content": text}) for text in ("Two", "Three")]
    assert [message["rev"] for message in sent] == [1, 3, 4]
    for wire in (desk, phone):
        await when(lambda wire=wire: len(wire.told("message:new")) == 3)
        assert wire.told("message:new") == sent
    await own_nodes.settled()
    assert await history(bob, talk) == sent
    missed = await phone.do("messages:sync", {**where, "afterRev": 1})
    assert missed["messages"] == sent[1:]
    assert missed["lastRev"] == 4
