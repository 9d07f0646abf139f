"""Runs the JavaScript and Python programs of README.md and docs/*.md against a real server, and checks the printed
examples of the commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import socketio

from chatserver.commands.tail.follower import Happened
from chatserver.commands.tail.lines import Lines
from chatserver.realtime.redis_manager import RedisClientManager
from tests.support.chatters import CLIENT, build
from tests.support.command import run
from tests.support.pages import Block, block
from tests.support.people import People
from tests.support.processes import until
from tests.support.redises import Wire
from tests.support.servers import ROOT, ChatServer

Of = Callable[[ChatServer], People]
PROTOCOL = "docs/protocol.md"


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> Path:
    """A folder with the packages that the README installs."""
    await asyncio.to_thread(build)
    (tmp_path / "node_modules" / "@chatserver").mkdir(parents=True)
    (tmp_path / "node_modules" / "@chatserver" / "client").symlink_to(CLIENT)
    installed = ROOT / "tests" / "js" / "node_modules"
    (tmp_path / "node_modules" / "socket.io-client").symlink_to(installed / "socket.io-client")
    return tmp_path


def here(shown: Block, server: ChatServer, **words: str) -> str:
    """Returns the block with the addresses of this server."""
    words = {"http://127.0.0.1:3000": server.rest, "http://127.0.0.1:3001": server.sockets} | words
    code = shown.text
    for word, other in words.items():
        code = code.replace(word, other)
    return code


async def node(script: Path, **env: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *("node", str(script)),
        env={"PATH": os.environ["PATH"], **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.parametrize("name", ["own", "official"])
async def test_each_client_of_the_readme_sends_a_message(
    server: ChatServer, people_of: Of, folder: Path, name: str
) -> None:
    alice, bob = people_of(server)("alice", "bob")
    code = here(block("README.md", f"// hello/{name}.mjs"), server, **{'"bob"': f'"{bob.id}"'})
    assert all(text in code for text in (server.rest, server.sockets, bob.id))
    script = folder / f"{name}.mjs"
    script.write_text(code)
    for number in (1, 2):
        said = (await node(script, TOKEN=alice.token)).splitlines()
        assert f"stored as number {number}" in said
        told = {"own": "Hello, Bob (pending)", "official": f"{alice.id} says Hello, Bob"}[name]
        assert told in "\n".join(said)
        if name == "official":  # the event comes before the acknowledgement
            assert said == [told, f"stored as number {number}"]
    (talk,) = (await bob.ask("GET", "/conversations"))["items"]
    assert (talk["lastMessage"]["senderId"], talk["unreadCount"]) == (alice.id, 2)


async def test_the_code_of_the_protocol_connects_and_reconnects(
    server: ChatServer, people_of: Of, folder: Path
) -> None:
    alice, bob = people_of(server)("alice", "bob")
    await alice.direct(bob)
    shown = block(PROTOCOL, "// connect.mjs")
    setting = """
let tokens = %s;
const getToken = async () => (tokens.length > 1 ? tokens.shift() : tokens[0]);
setTimeout(() => process.exit(), 1200);
"""
    tokens = json.dumps(["a.b.c", alice.token])
    code = here(shown, server, **{"https://chat.example.com": server.sockets, " ?? 5)": " ?? 0.1)"})
    (folder / "connect.mjs").write_text(code + setting % tokens)
    said = await node(folder / "connect.mjs")
    assert said == f"refused: UNAUTHENTICATED\n{alice.id} is in 1 conversations\n"


FOLLOWED = """
import { createInterface } from "node:readline";
import { follow } from "./follow.mjs";
const [url, token, conversationId] = process.argv.slice(2);
const socket = follow(url, { token }, conversationId, (messages) => console.log(JSON.stringify(messages)));
createInterface({ input: process.stdin }).on("close", () => process.exit());
"""


async def test_the_follower_of_the_protocol_has_everything(
    server: ChatServer, people_of: Of, folder: Path
) -> None:
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.group(bob)
    (folder / "follow.mjs").write_text(block(PROTOCOL, "// follow.mjs").text)
    (folder / "followed.mjs").write_text(FOLLOWED)
    way = Wire(server.ws_port)
    async with await asyncio.start_server(way.accept, "127.0.0.1", way.port):
        process = await asyncio.create_subprocess_exec(
            *(
                "node",
                str(folder / "followed.mjs"),
                f"http://127.0.0.1:{way.port}",
                bob.token,
                talk["id"],
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**26,
        )
        seen: list[Any] = []

        async def read() -> None:
            assert process.stdout
            async for line in process.stdout:
                seen[:] = json.loads(line)

        reading = asyncio.create_task(read())
        desk = await alice.connect()
        said: list[Any] = []
        for number in range(120):
            said.append(await desk.say(talk, f"line {number}"))
            first, middle = said[0], said[number // 2]
            if number % 3 == 0:
                await desk.do("reaction:add", {"messageId": middle["id"], "emoji": "👍"})
            if number % 4 == 0 and middle is not first:
                await desk.do("message:edit", {"messageId": first["id"], "content": f"{number}"})
            if number % 7 == 0 and middle is not first:
                await desk.do("reaction:remove", {"messageId": middle["id"], "emoji": "👍"})
            if number in (20, 50, 51, 90):
                way.cut()
            if number == 100:
                await desk.do("message:delete", {"messageId": middle["id"]})
                await bob.ask("DELETE", f"/messages/{said[3]['id']}?scope=self")
                await desk.do("message:edit", {"messageId": said[3]["id"], "content": "hidden"})
        kept = ("id", "seq", "content", "isDeleted", "isEdited", "attachments", "metadata")

        def shown(messages: list[Any]) -> list[Any]:
            return [
                (
                    {key: message[key] for key in kept},
                    {r["emoji"]: r["userIds"] for r in message["reactions"]},
                )
                for message in messages
            ]

        # Only the position, as a client reads it before the newest page.
        end = {"conversationId": talk["id"], "afterRev": 2**53 - 1}
        position = await desk.do("messages:sync", end)
        assert (position["messages"], position["hasMore"]) == ([], False)
        assert position["lastRev"] > 120
        path = f"/conversations/{talk['id']}/messages?limit=200"
        stored = (await bob.ask("GET", path))["items"]
        assert len(stored) == 120
        with contextlib.suppress(AssertionError):  # the next line shows the difference
            await until(lambda: shown(seen) == shown(stored))
        assert shown(seen) == shown(stored)
        process.stdin.close()  # type: ignore[union-attr]
        await process.wait()
        await reading
        way.cut()


async def test_the_code_for_several_nodes_makes_a_connected_server(redis_url: str) -> None:
    shown = block(
        "chatserver/realtime/redis_manager/README.md",
        "from chatserver.realtime import RealtimeServer",
    )
    names: dict[str, Any] = {}
    exec(shown.text.replace("redis://redis:6379", redis_url), names)  # noqa: S102
    manager = names["sio"].manager
    assert isinstance(names["sio"], socketio.AsyncServer)
    assert isinstance(manager, RedisClientManager)
    await manager.start()
    try:
        await until(lambda: manager.bus.up)
    finally:
        await manager.close()


async def test_the_code_for_the_bus_publishes_a_message(redis_url: str) -> None:
    shown = block("chatserver/realtime/README.md", "from chatserver.realtime.bus import Bus")
    code = shown.text.replace("redis://redis:6379", redis_url)
    head, _, body = code.partition("\n\n")
    program = f"{head}\nasync def main(deliver, catch_up, say_so):\n{textwrap.indent(body, '    ')}"
    # A channel of its own, so that parallel tests do not receive each other's messages.
    program = f"{program}\n    return bus\n".replace("r:lobby", f"r:{os.urandom(4).hex()}")
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102
    heard: list[Any] = []
    bus = await names["main"](lambda *said: heard.append(said), lambda: None, lambda *_: None)
    try:
        await until(lambda: bool(heard))
    finally:
        await bus.close()
    assert b"..." in heard[0]


def bare(text: str) -> list[str]:
    """Returns the words of each line, with figures as 0."""
    lines = [re.sub(r"[\d.,]*\d", "0", line).split() for line in text.strip().splitlines()]
    return [" ".join(words) for words in lines]


async def test_load_prints_the_shown_lines(server: ChatServer) -> None:
    shown = block("docs/commands.md", "ms        p50   p95    p99    max   count")
    options = ("--users", "4", "--conversations", "2", "--rate", "20", "--seconds", "0.5")
    ran = await run("load", *options, **server.env)
    assert ran.code == 0
    assert bare(ran.out)[-len(bare(shown.text)) :] == bare(shown.text)


def test_tail_prints_the_shown_lines() -> None:
    shown = block("docs/commands.md", "09:30:00  alice           #12  Hello, Bob!").text
    began = datetime.now().astimezone().replace(hour=9, minute=30, second=0, microsecond=0)

    def at(seconds: int) -> str:
        moment = (began + timedelta(seconds=seconds)).astimezone(UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    message: dict[str, Any] = {"replyTo": None, "attachments": []}
    hello = {"id": "a", "seq": 12, "senderId": "alice", "content": "Hello, Bob!"} | message
    hi = {"id": "b", "seq": 13, "senderId": "bob", "content": "Hi!"} | message | {"replyTo": "a"}
    told = [
        ("message:new", {**hello, "createdAt": at(0)}),
        ("message:new", {**hi, "createdAt": at(4)}),
        ("message:updated", {"messageId": "b", "content": "Hi there!", "updatedAt": at(5)}),
        ("reaction:added", {"messageId": "b", "userId": "alice", "emoji": "👍", "totalCount": 1}),
        ("user:typing", {"userId": "bob", "type": "typing", "isActive": True, "timestamp": at(9)}),
    ]
    told[3][1]["timestamp"] = at(6)
    lines = Lines({"name": "Lunch", "participants": []})
    printed = [lines.line(Happened(event, data)).plain for event, data in told]
    assert printed == shown.splitlines()
