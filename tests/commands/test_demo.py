"""`chatserver demo`: simulated people on a development server."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from collections import Counter
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from chatserver.cli import commands
from chatserver.commands.demo.cast import CONVERSATIONS
from chatserver.commands.demo.scenes import SCENES, endless, scene
from chatserver.development import PEOPLE
from tests.support.command import Ran, Running, begin, run
from tests.support.people import Person, ask
from tests.support.servers import INTERNAL_SECRET, ChatServer, free_port

WRONG = "a-secret-that-this-server-has-never-heard-of"
MASTER = {"X-Internal-Secret": INTERNAL_SECRET}


async def conversations(server: ChatServer, user: str) -> list[Any]:
    async with aiohttp.ClientSession() as http:
        url = f"{server.rest}/api/conversations?limit=200"
        _, page = await ask(http, "GET", url, None, {**MASTER, "X-User-Id": user})
    return sorted(page["items"], key=lambda conversation: conversation["id"])


async def demo(server: ChatServer, *options: str, pace: str = "500") -> Ran:
    ran = await run("demo", "--listeners", "0", *options, "--pace", pace, **server.env)
    assert ran.code == 0, ran.err
    assert ran.err == ""
    return ran


async def spoken(running: Running, count: int) -> None:
    """Return when this many more messages were printed."""
    names = [person.name for person in PEOPLE]
    while count:
        line = await running.line()
        count -= any(f"  {name}  " in line for name in names) and "ey" not in line.split()[-1][:2]


async def test_every_line_of_every_scene_is_for_the_people_of_its_conversation() -> None:
    cast = {scripted.key: set(scripted.cast) for scripted in CONVERSATIONS}
    assert set(cast) == set(SCENES)
    assert set.union(*cast.values()) == {person.id for person in PEOPLE}
    for key, scenes in SCENES.items():
        for text in scenes:
            lines = scene(text, random.Random(1))
            assert {line.who for line in lines} <= cast[key]
            assert lines[0].kind == "say"
            assert all("{" not in line.text for line in lines)
        played = endless(key, random.Random(1))
        assert all(next(played) for _ in range(3 * len(scenes)))


async def test_people_talk_as_people_do(start: Any) -> None:
    # At this pace people reconnect quickly; with a longer grace nobody would be seen going offline.
    server = await start(RATE_LIMITS="on", PRESENCE_GRACE_S="0.05")
    first = await demo(server, "--messages", "1")
    token = re.search(r"^alice +Alice Berg +(ey\S+)$", first.out, re.MULTILINE)
    assert token
    assert f"Playground  {server.rest}/playground\n" in first.out
    async with aiohttp.ClientSession() as session:
        me = Person(server, "alice", session)
        device = await me.connect(with_token=token[1])
        ran = await demo(server, "--once", pace="100")
        await device.caught_up()
        await device.close()
    heard = Counter(name for name, _ in device.heard)
    for event in (
        *("message:new", "message:updated", "reaction:added", "user:typing"),
        *("conversation:read", "user:online"),
    ):
        assert heard[event], f"no {event}"
    new = [told for name, told in device.heard if name == "message:new"]
    assert any(told["replyTo"] for told in new)
    assert {told["senderId"] for told in new} == {person.id for person in PEOPLE}
    everything = [
        line for key in SCENES for text in SCENES[key] for line in scene(text, random.Random(1))
    ]
    said = sum(line.kind in ("say", "answer") for line in everything)
    shown = [line for line in ran.out.split("Ctrl-C stops the demo:")[-1].splitlines() if line]
    assert len(shown) == len(CONVERSATIONS) + said + 1
    assert shown[-1] == "Finished."


async def test_the_channel_has_many_members_and_is_filled_once(start: Any) -> None:
    server = await start(LARGE_CONVERSATION="20")
    for listeners, members in ((1100, 1100), (1100, 1100), (1130, 1130), (5, 1130)):
        await demo(server, "--messages", "1", "--listeners", str(listeners))
        (news,) = [item for item in await conversations(server, "bob") if item["type"] == "channel"]
        assert news["isLarge"]
        assert news["participantCount"] == members + len(PEOPLE)
        assert {who["userId"] for who in news["participants"]} >= {person.id for person in PEOPLE}


async def test_neither_concurrent_nor_later_demos_create_duplicates(start: Any) -> None:
    server = await start()
    await asyncio.gather(*[demo(server, "--messages", "2") for _ in range(2)])
    before = {person.id: await conversations(server, person.id) for person in PEOPLE}
    for person in PEOPLE:
        keys = [conversation["metadata"].get("demo") for conversation in before[person.id]]
        named = Counter(key for key in keys if key)
        assert set(named.values()) <= {1}, named
        assert len(keys) == sum(person.id in scripted.cast for scripted in CONVERSATIONS)
    assert {conversation["type"] for conversation in before["alice"]} == {
        "direct",
        "group",
        "channel",
    }
    await demo(server, "--messages", "3")
    everything = {}
    for person in PEOPLE:
        after = await conversations(server, person.id)
        assert [conversation["id"] for conversation in after] == [
            conversation["id"] for conversation in before[person.id]
        ]
        everything |= {conversation["id"]: conversation for conversation in after}
    assert sum(conversation["lastSeq"] for conversation in everything.values()) == 7


async def test_the_demo_continues_without_removed_people(start: Any) -> None:
    """The demo continues when a developer removes people or deletes a conversation."""
    server = await start()
    await demo(server, "--messages", "1")
    (lunch,) = [
        conversation
        for conversation in await conversations(server, "alice")
        if conversation["metadata"].get("demo") == "lunch"
    ]
    async with begin("demo", "--listeners", "0", "--pace", "100", **server.env) as running:
        await running.says("Ctrl-C stops the demo:")
        async with aiohttp.ClientSession() as http:
            headers = {**MASTER, "X-User-Id": "alice"}
            path = f"{server.rest}/api/conversations/{lunch['id']}"
            for gone in ("/participants/bob", "/participants/carol"):
                status, _ = await ask(http, "DELETE", path + gone, None, headers)
                assert status == 204
            await spoken(running, 10)
            status, _ = await ask(http, "DELETE", path, None, headers)
            assert status == 204
        await spoken(running, 10)
        ran = await running.interrupt()
    assert (ran.code, ran.err) == (0, "")


async def test_the_demo_continues_after_a_restart_of_the_server(start: Any) -> None:
    server = await start()
    async with begin("demo", "--listeners", "0", "--pace", "50", **server.env) as running:
        await running.says("Ctrl-C stops the demo:")
        await spoken(running, 3)
        await server.kill()
        await server.start()
        await spoken(running, 10)
        ran = await running.interrupt()
    assert ran.code == 0
    assert ran.err.splitlines()[:2] == ["Connection lost. Reconnecting …", "Reconnected."]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it(server: ChatServer, number: int) -> None:
    async with begin("demo", "--listeners", "0", "--pace", "10", **server.env) as running:
        await running.says("Ctrl-C stops the demo:")
        await spoken(running, 1)
        ran = await running.interrupt(number)
    assert (ran.code, ran.err) == (0, "")


def test_the_demo_refuses_production_and_other_machines(server: ChatServer) -> None:
    production = {**server.env, "ENV": "production"}
    ran = CliRunner().invoke(commands, ["demo"], env=production)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(
        "ENV is production: the demo would add its people to your users. Use --yes-fill-this-server"
    )
    for option in ("--url", "--ws-url"):
        words = ["demo", option, "https://chat.example.com"]
        ran = CliRunner().invoke(commands, words, env=server.env)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith("https://chat.example.com is not on this machine")


async def test_the_demo_fills_production_with_the_option(server: ChatServer) -> None:
    options = ("--messages", "1", "--pace", "500", "--yes-fill-this-server")
    ran = await run("demo", "--listeners", "0", *options, **{**server.env, "ENV": "production"})
    assert ran.code == 0
    assert "/playground" not in ran.out


async def test_what_is_wrong_is_said_in_a_sentence(server: ChatServer) -> None:
    cases = [
        ({"PORT": str(free_port())}, "No chatserver answers at http://127.0.0.1:"),
        ({"WS_PORT": str(free_port())}, "No chatserver answers at http://127.0.0.1:"),
        ({"INTERNAL_API_SECRET": WRONG}, "The server does not accept this AUTH_JWT_SECRET or"),
        ({"AUTH_JWT_SECRET": WRONG}, "The server does not accept this AUTH_JWT_SECRET or"),
        ({"AUTH_JWKS_URL": "http://127.0.0.1:1/"}, "AUTH_JWKS_URL is set: only the holder of"),
    ]
    each = [run("demo", "--listeners", "0", **{**server.env, **settings}) for settings, _ in cases]
    for (settings, sentence), ran in zip(cases, await asyncio.gather(*each), strict=True):
        assert ran.code == (2 if "AUTH_JWKS_URL" in settings else 1), ran.err
        assert ran.err.startswith(sentence), ran.err
        assert len(ran.err.splitlines()) == 1
