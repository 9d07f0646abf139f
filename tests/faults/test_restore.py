"""Backup and restore of a database, as docs/operations.md describes them.

That page uses MongoDB's own tools. No package that tests could install has them, so documents are copied here.
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
    """Copy every document. No client writes during the copy."""
    with pymongo.MongoClient(mongo_url) as client:
        for name in client[database].list_collection_names():
            if docs := [*client[database][name].find()]:
                client[to][name].insert_many(docs)


async def test_a_restored_server_continues_from_its_backup(
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
        # A repeat of a send from before the backup is the same message, on a server that never received it.
        repeated = await alice.ask("POST", path, {"content": "line 4", "clientMessageId": "c-4"})
        assert repeated["id"] == said[4]["id"]
        await phone.close()
