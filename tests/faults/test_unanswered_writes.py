"""A write whose answer says that no majority has it. `./scripts/faults` tries every kind of write with that answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pymongo

from tests.conftest import Starter
from tests.support.foreign_writer import take_next_offset
from tests.support.people import People
from tests.support.raw import history
from tests.support.servers import ChatServer, MongoServer

NO_MAJORITY = {"code": 64, "errmsg": "stored, but the majority did not answer"}


async def test_a_send_that_another_process_forestalls_is_tried_again(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Nothing of the lost race is stored, so it does not matter that the majority did not answer then."""
    server = await start(own_mongo.url)
    alice, *friends = people_of(server)("alice", "bob", "carol", "dave")
    talks = [await alice.direct(friend) for friend in friends]
    desk = await alice.connect()
    for talk in talks:
        await desk.say(talk, "first")
    async with pymongo.AsyncMongoClient[Any](own_mongo.url) as client:
        for first in range(len(talks)):
            # Alone in its batch, or with others.
            several = talks[first:]
            await take_next_offset(client[server.env["MONGO_DATABASE"]].log, several[0])
            with own_mongo.failing("insert", times=1, writeConcernError=NO_MAJORITY):
                sent = await asyncio.gather(*[desk.say(talk, f"{first}") for talk in several])
            assert [message["content"] for message in sent] == [f"{first}"] * len(several)
    for n, talk in enumerate(talks):
        said = await history(alice, talk)
        assert [message["content"] for message in said] == ["first", *map(str, range(n + 1))]
