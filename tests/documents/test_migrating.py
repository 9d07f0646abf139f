"""docs/migrating.md: checks its tables of old and new calls, and runs the import of an old chat."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import gridfs
import pymongo
import redis.asyncio
import socketio
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase

from chatserver.realtime.redis_manager import RedisClientManager
from tests.support.pages import block, text
from tests.support.people import People
from tests.support.servers import INTERNAL_SECRET, ROOT, ChatServer

Of = Callable[[ChatServer], People]


def at(minute: int) -> datetime:
    return datetime(2024, 1, 15, 10, minute, tzinfo=UTC)


async def bring(server: ChatServer, url: str, database: str) -> tuple[int, str]:
    """Runs the import with the command of the page."""
    line = block("docs/migrating.md", "set -a && . ./secrets.env").lines[1]
    words = {
        "OLD_MONGO_URL=mongodb://127.0.0.1:27017 ": f"OLD_MONGO_URL='{url}' ",
        "OLD_DATABASE=chat ": f"OLD_DATABASE={database} ",
        ".venv/bin/python": sys.executable,
    }
    for word, here in words.items():
        assert word in line
        line = line.replace(word, here)
    process = await asyncio.create_subprocess_shell(
        line,
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "CHAT_URL": server.rest,
            "INTERNAL_API_SECRET": INTERNAL_SECRET,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode()


async def test_an_old_chat_is_imported_without_duplicates(
    server: ChatServer, mongo_url: str, people_of: Of
) -> None:
    people = people_of(server)
    database = f"old-{time.monotonic_ns()}"
    alice, bob, carol, dora = (ObjectId() for _ in range(4))
    names = {alice: "Alice", bob: "Bob", carol: "Carol", dora: "Dora"}
    pair, group, ids = ObjectId(), ObjectId(), [ObjectId() for _ in range(6)]
    with pymongo.MongoClient(mongo_url) as client:
        old = client[database]
        old.users.insert_many([{"_id": user_id, "name": name} for user_id, name in names.items()])
        old.conversations.insert_many(
            [
                {"_id": pair, "members": [alice, bob]},
                # Dora has left, but has messages.
                {"_id": group, "name": "Lunch", "members": [alice, bob, carol]},
            ]
        )
        rows = [
            {"_id": ids[2], "sender": dora, "text": "At noon?", "created_at": at(2)},
            {"_id": ids[0], "sender": alice, "text": "Where?", "created_at": at(0)},
            {"_id": ids[1], "sender": bob, "text": "Oh!", "created_at": at(1), "deleted": True},
            {"_id": ids[3], "sender": bob, "text": "Yes", "created_at": at(3), "reply_to": ids[2]},
        ]
        rows[0]["reactions"] = {"👍": [carol, alice]}
        old.messages.insert_many([{"conversation": str(group), **row} for row in rows])
        hello = {"_id": ids[4], "sender": bob, "text": "Hello", "created_at": at(4)}
        old.messages.insert_one({"conversation": str(pair), **hello})
        old.marks.insert_one({"conversation": str(group), "user": alice, "message": ids[2]})

        code, said = await bring(server, mongo_url, database)
        assert (code, said) == (0, "4 users, 2 conversations, 4 messages\n")
        more = {"_id": ids[5], "sender": carol, "text": "I come too", "created_at": at(5)}
        old.messages.insert_one({"conversation": str(group), **more})
        code, said = await bring(server, mongo_url, database)
        assert (code, said) == (0, "4 users, 2 conversations, 5 messages\n")

    async def ask(who: ObjectId, path: str) -> Any:
        status, answer = await people.master("GET", path, **{"X-User-Id": str(who)})
        assert status == 200, answer
        return answer

    talks = (await ask(alice, "/conversations"))["items"]
    lunch, direct = sorted(talks, key=lambda talk: talk["type"], reverse=True)
    assert (len(talks), lunch["type"], direct["type"]) == (2, "group", "direct")
    assert lunch["name"] == "Lunch"
    assert {
        participant["userId"]: participant["role"] for participant in lunch["participants"]
    } == {
        str(alice): "owner",
        str(bob): "member",
        str(carol): "member",
    }
    page = await ask(alice, f"/conversations/{lunch['id']}/messages")
    seen = [(message["seq"], message["senderId"], message["content"]) for message in page["items"]]
    assert seen == [
        (1, str(alice), "Where?"),
        (2, str(dora), "At noon?"),
        (3, str(bob), "Yes"),
        (4, str(carol), "I come too"),
    ]
    noon, yes = page["items"][1:3]
    assert yes["replyTo"] == noon["id"]
    (thumbs,) = noon["reactions"]
    assert {*thumbs["userIds"]} == {str(carol), str(alice)}
    assert noon["metadata"] == {"sentAt": "2024-01-15T10:02:00.000+00:00"}
    # Alice had read up to Dora's message; the others have read nothing.
    unread = {who: (await ask(who, "/conversations"))["items"] for who in (alice, bob)}
    assert {
        conversation["type"]: conversation["unreadCount"] for conversation in unread[alice]
    } == {"group": 2, "direct": 1}
    assert {conversation["type"]: conversation["unreadCount"] for conversation in unread[bob]} == {
        "group": 3,
        "direct": 0,
    }

    # The data of a blocked user cannot be imported.
    await people.master("POST", "/users/sync", {"externalUserId": str(bob), "status": "blocked"})
    status, _ = await people.master("GET", "/conversations", **{"X-User-Id": str(bob)})
    assert status == 403


def table(heading: str) -> list[list[str]]:
    """Returns the cells of the table below a heading of the page."""
    _, _, rest = text("docs/migrating.md").partition(f"\n{heading}\n")
    rows = re.findall(r"^\| (.*) \|$", rest.split("\n#")[0], re.MULTILINE)
    return [re.split(r" \| ", row) for row in rows][1:]


def test_new_calls_are_awaited_as_on_the_page() -> None:
    kinds: dict[str, Any] = {
        "c": AsyncCollection,
        "client": AsyncMongoClient,
        "cursor": AsyncCursor,
        "db": AsyncDatabase,
    }
    seen = 0
    for _, new, *_ in table("## Motor to PyMongo"):
        for waits, name, call in re.findall(r"`(await )?(\w+)\.(\w+)\(", new):
            assert inspect.iscoroutinefunction(getattr(kinds[name], call)) == bool(waits), new
            seen += 1
    assert seen == 7
    assert inspect.iscoroutinefunction(AsyncCollection.find_one)
    assert inspect.iscoroutinefunction(AsyncCollection.list_indexes)
    assert isinstance(gridfs.AsyncGridFSBucket, type)


def test_redis_py_has_the_calls_and_defaults_of_the_page() -> None:
    new = " ".join(row[1] for row in table("## aioredis to redis-py"))
    assert re.findall(r"r\.(\w+)", new) == ["aclose"]
    for name in ("aclose", "pubsub", "pipeline", "lock"):
        assert hasattr(redis.asyncio.Redis, name)
    assert redis.asyncio.from_url("redis://127.0.0.1").connection_pool.max_connections == 100
    options = inspect.signature(redis.asyncio.Redis.__init__).parameters
    assert options["socket_timeout"].default == 5


async def test_a_client_of_engineio_3_gets_400(server: ChatServer) -> None:
    async with aiohttp.ClientSession() as http:
        url = f"{server.sockets}/socket.io/?EIO=3&transport=polling"
        async with http.get(url) as answer:
            assert answer.status == 400


async def test_named_calls_and_events_exist() -> None:
    page = text("docs/migrating.md")
    documented = text("docs/protocol.md")
    events = {*re.findall(r"\b((?:message|messages|conversation|typing|user):\w+)", page)}
    assert len(events) > 10
    for event in events:
        assert f"`{event}`" in documented, event
    for path in re.findall(r"`\w+ (/api/[^`]*)`", page):
        assert path.replace("{id}", "{messageId}") in documented, path


def test_the_code_for_several_nodes_makes_a_server() -> None:
    names: dict[str, Any] = {}
    exec(block("docs/migrating.md", "# nodes.py").text, names)  # noqa: S102
    assert isinstance(names["sio"], socketio.AsyncServer)
    assert isinstance(names["sio"].manager, RedisClientManager)
