"""`chatserver tail`: every change of a conversation, once and in order."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.command import Running, begin, run
from tests.support.conversation_copy import CHANGES, Copy
from tests.support.people import People, Person, devices, presence
from tests.support.people_on_nodes import spread
from tests.support.raw import history
from tests.support.redises import RedisServer
from tests.support.servers import ChatServer, free_port
from tests.support.steady_talk import begin as begin_to_talk
from tests.support.steady_talk import end

Talk = dict[str, Any]
Of = Callable[[ChatServer], People]
WRONG = "a-secret-that-this-server-has-never-heard-of"
ORDERS = "\x1b[2J\x1b]0;owned\x07\x9b2J\x7f\u202e\u2066\u2028"
"""Control sequences: clear the screen, set the window title, reverse the writing direction, start a line."""
UNPRINTABLE = {character for character in ORDERS if not character.isprintable()}


def tail(person: Person, talk: Talk, *options: str, **env: str) -> Any:
    return begin(*words(person, talk), *options, **{**person.server.env, **env})


def words(person: Person, talk: Talk) -> list[str]:
    return ["tail", "--conversation", talk["id"], "--user", person.id]


def told(running: Running) -> list[Any]:
    return [json.loads(line) for line in running.out]


async def until(running: Running, event: str, **data: Any) -> Any:
    """The data of the next JSON line with this event and these values."""
    while True:
        line = json.loads(await running.line())
        if line["event"] == event and data.items() <= line["data"].items():
            return line["data"]


async def up_to(running: Running, rev: int) -> None:
    while (json.loads(await running.line())["rev"] or 0) < rev:
        pass


def copy_of(running: Running) -> Copy:
    """The state that a program builds from the JSON lines. Asserts that each change came once, in order."""
    lines = told(running)
    revs = [line["rev"] for line in lines if line["rev"] is not None]
    assert revs == sorted(set(revs))
    copy = Copy()
    for line in lines:
        if line["event"] == "messages:sync":
            copy.take([line["data"]])
        elif line["event"] in CHANGES:
            copy.hear([(line["event"], line["data"])])
    return copy


async def test_lines_for_people_show_who_does_what(server: ChatServer) -> None:
    async with aiohttp.ClientSession() as session:
        everyone = People(server, session)
        alice, bob, carol = everyone("alice", "bob", "carol")
        talk = await alice.group(bob)
        desk, phone = await devices(alice, bob)
        await desk.say(talk, "The first\nof two lines")
        async with tail(alice, talk, "--since", "0") as running:
            await running.says("The first ⏎ of two lines")
            second = await phone.say(talk, "The secnd")
            await phone.do("message:edit", {"messageId": second["id"], "content": "The second"})
            await desk.do("reaction:add", {"messageId": second["id"], "emoji": "👍"})
            await desk.say(talk, "Yes", replyTo=second["id"])
            await desk.do("message:read", {"messageId": second["id"]})
            await phone.do("typing:start", {"conversationId": talk["id"]})
            await alice.ask(
                "POST", f"/conversations/{talk['id']}/participants", {"userIds": [carol.id]}
            )
            await alice.ask("PATCH", f"/conversations/{talk['id']}", {"name": "Ours"})
            await alice.ask(
                "PATCH", f"/conversations/{talk['id']}/participants/{bob.id}", {"role": "admin"}
            )
            await alice.ask("PATCH", f"/conversations/{talk['id']}", {"metadata": {"a": 1}})
            await phone.do("message:delete", {"messageId": second["id"]})
            # A message cannot send control sequences to the reader's terminal.
            await phone.say(talk, f"{ORDERS}right to left")
            assert not set(await running.says("right to left")) & UNPRINTABLE
            ran = await running.interrupt()
        await everyone.go_home()
    assert (ran.code, ran.err) == (0, "")
    shown = [line.split(maxsplit=1)[1].split() for line in running.out]
    expected = [
        f"{alice.id} #1 The first ⏎ of two lines",
        f"{bob.id} #2 The secnd",
        "- #2 edited: The second",
        f"{alice.id} #2 + 👍 (1)",
        f"{alice.id} #3 (to #2) Yes",
        f"{alice.id} #2 has read it",
        f"{bob.id} is typing",
        f"{carol.id} is now in the conversation",
        "- the conversation is called 'Ours' now",
        f"- {bob.id} is admin now",
        "- the conversation was changed",
        "- #2 deleted",
    ]
    got = [" ".join(line) for line in shown]
    for line in expected:
        assert line in got, (line, got)
    order = [got.index(line) for line in expected]
    assert order == sorted(order)


async def test_json_has_each_change_once_from_any_rev_on(server: ChatServer, people_of: Of) -> None:
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.group(bob)
    desk, phone = await devices(alice, bob)
    sent = [await desk.say(talk, f"{n}") for n in range(250)]
    await desk.do("message:edit", {"messageId": sent[3]["id"], "content": "changed"})
    await desk.do("message:delete", {"messageId": sent[5]["id"]})
    for since in (0, 240):
        async with tail(alice, talk, "--json", "--since", str(since)) as running:
            await until(running, "messages:sync", id=sent[5]["id"])
            await phone.say(talk, "live")
            await until(running, "message:new", content="live")
            ran = await running.interrupt()
        assert (ran.code, ran.err) == (0, "")
        stored = await history(alice, talk)
        assert copy_of(running).in_order == [entry for entry in stored if entry["rev"] > since]


async def test_without_since_the_last_messages_are_shown_before_new_ones(
    server: ChatServer, people_of: Of
) -> None:
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.group(bob)
    (desk,) = await devices(alice)
    for n in range(5):
        await desk.say(talk, f"{n}")
    async with tail(bob, talk, "--json", "--last", "3") as running:
        for content in "234":
            assert (await until(running, "messages:sync"))["content"] == content
        # It arrives as an event, or the initial sync still reads it.
        await up_to(running, (await desk.say(talk, "5"))["rev"])
        assert told(running)[-1]["data"]["content"] == "5"
        await running.interrupt()
    async with tail(bob, talk, "--json", "--last", "0") as running:
        heard = asyncio.ensure_future(until(running, "message:new"))
        while not heard.done():
            await desk.say(talk, "Are you there?")
            await asyncio.wait([heard], timeout=0.1)
        last = await desk.say(talk, "good")
        await up_to(running, last["rev"])
        await running.interrupt()
    changes = [line["data"] for line in told(running) if line["rev"]]
    assert changes == (await history(alice, talk))[-len(changes) :]
    assert changes[0]["seq"] > 6


async def test_every_text_is_printed_completely_and_safely(
    server: ChatServer, people_of: Of
) -> None:
    texts = [
        ORDERS,
        "Ça va\u202f? 何\u3000か 👩\u200d🚀 می\u200cشود\tund\r\nso",
        "visible\U000e0067",
    ]
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.group(bob)
    for text in texts:
        await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": text})
    async with tail(bob, talk, "--json", PYTHONIOENCODING="cp1253") as running:
        for text in texts:
            line = await running.line()
            assert line.isprintable()
            assert json.loads(line)["data"]["content"] == text
    async with tail(bob, talk) as running:
        assert not set(await running.line()) & UNPRINTABLE
        assert "Ça va ? 何 か 👩\u200d🚀 می\u200cشود und ⏎ so" in await running.line()
    async with tail(bob, talk, PYTHONIOENCODING="cp1253") as running:
        await running.line()
        assert "?a va ?" in await running.line()


async def test_other_conversations_of_the_user_are_not_shown(server: ChatServer) -> None:
    async with aiohttp.ClientSession() as session:
        everyone = People(server, session)
        alice, bob, carol = everyone("alice", "bob", "carol")
        talk, other = await alice.group(bob), await alice.group(carol)
        desk, tablet = await devices(alice, carol)
        await desk.say(talk, "ready?")
        async with tail(alice, talk, "--json", "--since", "0") as running:
            await until(running, "messages:sync", content="ready?")
            await desk.say(other, "elsewhere")
            await tablet.do("typing:start", {"conversationId": other["id"]})
            await alice.ask("PATCH", f"/conversations/{other['id']}", {"name": "Other"})
            await tablet.close()
            await asyncio.sleep(1.2)  # longer than the grace period: carol goes offline
            await desk.say(talk, "here")
            await until(running, "message:new", content="here")
            await running.interrupt()
        await everyone.go_home()
    assert [line["event"] for line in told(running)] == ["messages:sync", "message:new"]
    assert "user:offline" in {name for name, _ in desk.heard}


async def test_a_server_that_is_killed_and_comes_back_leaves_no_gap(start: Any) -> None:
    server = await start()
    async with aiohttp.ClientSession() as session:
        everyone = People(server, session)
        alice, bob, carol = everyone("alice", "bob", "carol")
        talk = await alice.group(bob)
        path = f"/conversations/{talk['id']}"
        (desk,) = await devices(alice)
        first = await desk.say(talk, "before")
        async with tail(bob, talk, "--json", "--since", "0") as running:
            await until(running, "messages:sync")
            await server.kill()
            await asyncio.sleep(0.3)
            await server.start()
            await alice.ask("POST", f"{path}/messages", {"content": "meanwhile"})
            await alice.ask("PATCH", f"/messages/{first['id']}", {"content": "changed"})
            await alice.ask("POST", f"{path}/participants", {"userIds": [carol.id]})
            await alice.ask("POST", f"{path}/messages", {"content": "after"})
            stored = await history(alice, talk)
            await up_to(running, max(message["rev"] for message in stored))
            assert copy_of(running).in_order == stored
            assert [message["content"] for message in stored] == ["changed", "meanwhile", "after"]
            ran = await running.interrupt()
    assert ran.code == 0
    assert ran.err.splitlines()[0] == "Connection lost. Reconnecting …"
    assert "Reconnected." in ran.err


async def test_participants_are_known_beyond_those_in_the_view(start: Any, people_of: Of) -> None:
    server = await start(LARGE_CONVERSATION="110")
    everyone = people_of(server)
    alice, dora = everyone("alice", "dora")
    crowd = everyone(*(f"crowd{n:03}" for n in range(105)))
    more = everyone(*(f"more{n}" for n in range(9)))
    talk = await alice.group(*crowd)
    path = f"/conversations/{talk['id']}"
    shown = {participant["userId"] for participant in talk["participants"]}
    hidden = [person for person in crowd if person.id not in shown]
    assert len(shown) == 100
    async with tail(alice, talk, "--json", "--since", "0") as running:
        await presence(hidden[0], alice.id, "online")
        (device,) = await devices(hidden[0])
        await until(running, "user:online", userId=hidden[0].id)
        await device.close()

        await server.kill()
        await server.start()
        await alice.ask("POST", f"{path}/participants", {"userIds": [dora.id]})
        # From now on this admin is in the view, and another participant is not.
        await alice.ask("PATCH", f"{path}/participants/{hidden[1].id}", {"role": "admin"})
        await alice.ask("DELETE", f"{path}/participants/{hidden[2].id}")
        await alice.ask("POST", f"{path}/messages", {"content": "after"})
        while "after" not in str(told(running)):
            await running.line()
        await alice.ask("POST", f"{path}/participants", {"userIds": [who.id for who in more]})
        await until(running, "participants:changed", participantCount=115)
        for who in more:
            await alice.ask("DELETE", f"{path}/participants/{who.id}")
        await until(running, "participant:removed", userId=more[-1].id)
        await asyncio.sleep(1.0)  # long enough to read the participants again
        await devices(dora)
        await until(running, "user:online", userId=dora.id)
        await running.interrupt()
    changes = [
        (line["event"], line["data"]["userId"])
        for line in told(running)
        if line["event"].startswith("participant:")
    ]
    assert [who for event, who in changes if event == "participant:added"] == [dora.id]
    removed = {who for event, who in changes if event == "participant:removed"}
    assert removed <= {hidden[2].id, *(who.id for who in more)}
    assert {hidden[2].id, more[-1].id} <= removed
    await everyone.go_home()


async def test_nodes_that_stop_one_after_another_leave_no_gap(
    mongo_url: str, own_redis: RedisServer, worker: str, tmp_path: Path
) -> None:
    """People keep talking on three nodes. The node that `tail` uses is stopped, twice."""
    database = f"{worker}-tail-{time.time_ns()}"
    settings = {"LOG_LEVEL": "warning"}
    async with (
        spread(mongo_url, own_redis.url, database, tmp_path, **settings) as nodes,
        aiohttp.ClientSession() as session,
    ):
        everyone = People(nodes.servers[0], session, nodes)
        talk, listener, streams, _, talking = await begin_to_talk(everyone)
        away = [word for node in nodes.servers for word in ("--ws-url", node.sockets)]
        reader = Person(nodes.servers[-1], listener.person.id, session)
        async with tail(reader, talk, "--json", "--since", "0", *away) as running:
            await until(running, "message:new")
            # `tail` starts on the first node and tries the nodes in turn.
            for server, how in zip(nodes.servers, (signal.SIGKILL, signal.SIGTERM), strict=False):
                await asyncio.sleep(0.7)
                server.signal(how)
                await server.process.wait()
            await asyncio.sleep(0.7)
            await end(streams, talking)
            stored = await history(reader, talk)
            assert len(stored) > 100
            await up_to(running, max(message["rev"] for message in stored))
            assert copy_of(running).in_order == stored
            ran = await running.interrupt()
        assert ran.code == 0
        assert ran.err.count("Connection lost") >= 2
        nodes.servers[:] = nodes.servers[2:]
        await everyone.go_home()


async def test_tail_ends_when_its_user_is_removed(server: ChatServer) -> None:
    async with aiohttp.ClientSession() as session:
        alice, bob = People(server, session)("alice", "bob")
        talk = await alice.group(bob)
        async with tail(bob, talk, "--json") as running:
            await presence(alice, bob.id, "online")
            await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{bob.id}")
            ran = await running.end()
    assert ran.code == 1
    assert ran.err == f"{bob.id} is no longer in this conversation.\n"


async def test_a_closed_pipe_is_no_error(server: ChatServer) -> None:
    """As in `chatserver tail … | head -n 1`."""
    async with aiohttp.ClientSession() as session:
        alice, bob = People(server, session)("alice", "bob")
        talk = await alice.group(bob)
        for n in range(3):
            await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": f"{n}"})
        follow = " ".join([sys.executable, "-m", "chatserver", *words(bob, talk)])
        command = f"{{ {follow} ; echo $? >&2; }} | head -n 1"
        shell = await asyncio.create_subprocess_shell(
            command, env=server.env, cwd=".", stdout=-1, stderr=-1
        )
        await presence(alice, bob.id, "online")
        for _ in range(3):
            await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "more"})
        out, err = await asyncio.wait_for(shell.communicate(), 20)
    assert len(out.splitlines()) == 1
    assert err == b"0\n"


async def test_what_is_wrong_is_said_in_a_sentence(server: ChatServer) -> None:
    async with aiohttp.ClientSession() as session:
        alice, bob, eve = People(server, session)("alice", "bob", "eve")
        talk = await alice.group(bob)
        cases: list[tuple[Person, dict[str, str], str]] = [
            (eve, {}, f"{eve.id} is not in conversation {talk['id']}: name a participant"),
            (alice, {"PORT": str(free_port())}, "No chatserver answers at http://127.0.0.1:"),
            (alice, {"WS_PORT": str(free_port())}, "No chatserver answers at http://127.0.0.1:"),
            (alice, {"AUTH_JWT_SECRET": WRONG}, "The server does not accept this AUTH_JWT_SECRET"),
        ]
        each = [run(*words(who, talk), **{**server.env, **settings}) for who, settings, _ in cases]
        for (_, _, sentence), ran in zip(cases, await asyncio.gather(*each), strict=True):
            assert (ran.code, ran.out) == (1, "")
            assert ran.err.startswith(sentence), ran.err
            assert len(ran.err.splitlines()) == 1
    ran = await run(
        "tail", "--conversation", "x", "--user", "y", "--url", "chat:3000", **server.env
    )
    assert (ran.code, ran.err) == (2, "'chat:3000' must start with http:// or https://.\n")
