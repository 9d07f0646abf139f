"""A database that was backed up and restored: what docs/operations.md says of it.

MongoDB's own tools, which it names, are in no package that tests could install: here documents are copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pymongo

from tests.conftest import Starter
from tests.support.people import People
from tests.support.servers import ChatServer, chat_server

Of = Callable[[ChatServer], People]


def back_up(mongo_url: str, database: str, to: str) -> None:
    """Every document of one moment: nobody writes meanwhile."""
    with pymongo.MongoClient(mongo_url) as client:
        for name in client[database].list_collection_names():
            if docs := [*client[database][name].find()]:
                client[to][name].insert_many(docs)


async def test_a_restored_server_goes_on_where_the_backup_was_made(
    start: Starter, mongo_url: str, people_of: Of, tmp_path: Path
) -> None:
    first = await start()
    people = people_of(first)
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    desk = await alice.connect()
    said = [await desk.say(talk, f"line {n}", clientMessageId=f"c-{n}") for n in range(5)]
    await desk.do("message:edit", {"messageId": said[0]["id"], "content": "the first"})
    await desk.do("message:delete", {"messageId": said[1]["id"]})
    await bob.ask("PUT", f"/conversations/{talk['id']}/read", {"upToMessageId": said[2]["id"]})
    path = f"/conversations/{talk['id']}/messages"
    kept = await bob.ask("GET", path)
    unread = await bob.ask("GET", f"/conversations/{talk['id']}/unread-count")
    restored = f"{first.env['MONGO_DATABASE']}-{time.monotonic_ns()}"[-60:]
    back_up(mongo_url, first.env["MONGO_DATABASE"], restored)
    lost = await desk.say(talk, "Said after the backup")
    assert lost["seq"] == 6

    async with chat_server(mongo_url, restored, tmp_path / "log") as second:
        for person in (alice, bob):
            person.server = second
        assert await bob.ask("GET", path) == kept
        assert await bob.ask("GET", f"/conversations/{talk['id']}/unread-count") == unread
        phone = await bob.connect()
        again = await phone.say(talk, "Said after the restore")
        assert (again["seq"], again["rev"]) == (6, 8)
        # A send of before the backup is still the same message, in a server that never heard of it.
        repeated = await alice.ask("POST", path, {"content": "line 4", "clientMessageId": "c-4"})
        assert repeated["id"] == said[4]["id"]
        await phone.close()
