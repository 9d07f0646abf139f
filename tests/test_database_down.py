"""The database goes away under the server, in every way that it can, and comes back."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from .conftest import Starter
from .people import People, Person
from .raw import Answer, Wire, history, rising, when
from .replay import CHANGES, Copy
from .servers import ChatServer, MongoServer

Talk = dict[str, Any]


@pytest_asyncio.fixture
async def mongo(tmp_path: Path) -> AsyncIterator[MongoServer]:
    """One to ill-treat."""
    server = MongoServer(tmp_path / "mongo")
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


async def ready(people: People) -> int:
    async with people.session.get(f"{people.server.rest}/ready") as answer:
        assert answer.content_type == "application/json"
        return answer.status


async def becomes_ready(people: People, within: float = 15) -> None:
    async with asyncio.timeout(within):
        while True:
            if await ready(people) == 200:
                return
            await asyncio.sleep(0.05)


class Stream:
    """Somebody who keeps talking, with up to 50 messages under way; the answers are kept."""

    def __init__(self, wire: Wire, talk: Talk) -> None:
        self.wire = wire
        self.talk = talk
        self.asked: list[asyncio.Future[Answer]] = []

    async def run(self, pause: float = 0.002) -> None:
        while True:
            if len(self.asked) < 50 or self.asked[-50].done():
                await self.say()
            await asyncio.sleep(pause)

    async def say(self) -> None:
        n = len(self.asked)
        self.asked.append(await self.wire.say(self.talk, f"{n}", f"{n}"))

    def acked(self) -> list[Any]:
        return [one.result()["data"] for one in self.asked if one.done() and one.result()["ok"]]

    def failed(self) -> list[str]:
        done = [one.result() for one in self.asked if one.done()]
        return [one["error"]["code"] for one in done if not one["ok"]]

    async def repeat(self) -> None:
        """Say again what failed, in order: the first until it is taken, the rest in one breath."""
        answers = await asyncio.gather(*self.asked)
        failed = [n for n, answer in enumerate(answers) if not answer or not answer["ok"]]
        async with asyncio.timeout(3):
            while failed:
                if (await self._again(failed[0]))["ok"]:
                    break
                await asyncio.sleep(0.05)
        again = await asyncio.gather(*[self._again(n) for n in failed[1:]])
        assert [answer for answer in again if not answer["ok"]] == []

    async def _again(self, n: int) -> Any:
        self.asked[n] = await self.wire.say(self.talk, f"{n}", f"{n}")
        return await self.asked[n]


class Changer:
    """Somebody who edits a message again and again, and reacts to it, one after the other."""

    def __init__(self, wire: Wire, message: Any) -> None:
        self.wire = wire
        self.message = message
        self.texts: list[str] = []
        """The last one that was acknowledged, and those tried since."""

    async def run(self) -> None:
        target = {"messageId": self.message["id"]}
        for n in itertools.count():
            self.texts.append(f"edit {n}")
            answer = await (await self.wire.ask("message:edit", target | {"content": f"edit {n}"}))
            if answer and answer["ok"]:
                self.texts = [f"edit {n}"]
            change = "reaction:remove" if n % 2 else "reaction:add"
            await (await self.wire.ask(change, target | {"emoji": "👍"}))


async def all_is_right(
    listener: Wire, reader: Person, streams: list[Stream], changer: Changer
) -> None:
    """What is stored is what was acknowledged, in order, and the listener heard it once."""
    first, *log = whole = await history(reader, streams[0].talk)
    assert [message["seq"] for message in whole] == list(range(1, len(whole) + 1))
    assert rising([message["rev"] for message in log])
    assert first["content"] in changer.texts
    by_id = {message["id"]: message for message in log}
    for stream in streams:
        said = [one["content"] for one in log if one["senderId"] == stream.wire.person.id]
        assert said == [f"{n}" for n in range(len(stream.asked))]
        assert [by_id[one["id"]] for one in stream.acked()] == stream.acked()
    heard = [event for event in listener.heard if event[0] in CHANGES]
    assert rising([told["rev"] for _, told in heard])
    assert listener.told("message:new")[1:] == log
    copy = Copy()
    copy.hear(heard)
    assert copy.in_order == whole


async def begin(
    people: People,
) -> tuple[Talk, Wire, list[Stream], Changer, list[asyncio.Task[None]]]:
    """Four in a conversation: three talk, one of them on a second device changes; one listens."""
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    talk = await alice.group(bob, carol, dave)
    listener, *wires = [await Wire.connect(one) for one in (dave, alice, bob, carol, alice)]
    changed = await (await wires[3].say(talk, "edit me"))
    assert changed is not None
    streams, changer = (
        [Stream(wire, talk) for wire in wires[:3]],
        Changer(wires[3], changed["data"]),
    )
    running = [asyncio.create_task(one.run()) for one in (*streams, changer)]
    return talk, listener, streams, changer, running


async def end(streams: list[Stream], running: list[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.gather(*[one for stream in streams for one in stream.asked])


async def heard_settles(listener: Wire, reader: Person, talk: Talk, within: float = 15) -> None:
    """Without anybody saying anything more, the listener hears all that is stored."""
    async with asyncio.timeout(within):
        while True:
            stored = [one["id"] for one in await history(reader, talk)]
            if [one["id"] for one in listener.told("message:new")] == stored:
                return
            await asyncio.sleep(0.1)


async def test_mongod_is_killed_and_started_again(
    mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(mongo.url))
    talk, listener, streams, changer, running = await begin(people)
    bob, dave = streams[1].wire.person, listener.person
    await listener.until(lambda: len(listener.told("message:new")) > 150)
    mongo.kill()
    killed = time.monotonic()
    await when(streams[0].failed)
    assert time.monotonic() - killed < 5
    await end(streams, running)

    # Every door says so, in time, and means it.
    path = f"/conversations/{talk['id']}"
    say = {"content": "x"}
    asked = [
        dave.refused("POST", f"{path}/messages", say),
        dave.refused("GET", f"{path}/messages"),
        dave.refused("GET", "/conversations"),
        dave.refused("PUT", f"{path}/read"),
        bob.refused("PATCH", f"/messages/{streams[1].acked()[0]['id']}", say),
    ]
    began = time.monotonic()
    stranger = await Wire.open(people("erin"))
    await stranger.introduce()
    refusals = await asyncio.gather(*asked)
    await stranger.until(lambda: any(frame.startswith("44") for frame in stranger.frames))
    assert '"code":"UNAVAILABLE"' in stranger.frames[-1]
    assert time.monotonic() - began < 5.2
    assert [(one.code, one.status) for one in refusals] == [("UNAVAILABLE", 503)] * len(asked)
    assert await ready(people) == 503
    async with people.session.get(f"{people.server.rest}/health") as answer:
        assert answer.status == 200
    await asyncio.to_thread(mongo.start)
    await becomes_ready(people)
    await heard_settles(listener, dave, talk)
    for stream in streams:
        await stream.repeat()
    await listener.caught_up()
    await all_is_right(listener, dave, streams, changer)
    assert max(stream.wire.slowest for stream in streams) < 5
    assert {code for stream in streams for code in stream.failed()} <= {"UNAVAILABLE"}
    for wire in (listener, *[stream.wire for stream in streams]):
        assert not wire.gone.is_set(), (
            "an outage of the database is no reason to lose the connection"
        )


async def test_mongod_stands_still_and_goes_on(
    mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """What was under way lands late: after it was answered with UNAVAILABLE."""
    people = people_of(await start(mongo.url))
    talk, listener, streams, changer, running = await begin(people)
    bob, dave = streams[1].wire.person, listener.person
    await listener.until(lambda: len(listener.told("message:new")) > 50)
    for _ in range(5):
        # A hiccup: nobody notices but by the wait.
        mongo.signal(signal.SIGSTOP)
        await asyncio.sleep(0.1)
        mongo.signal(signal.SIGCONT)
        await asyncio.sleep(0.05)
    assert not any(stream.failed() for stream in streams)
    mongo.signal(signal.SIGSTOP)
    await when(lambda: all(stream.failed() for stream in streams))
    assert await ready(people) == 503
    await end(streams, running)
    mongo.signal(signal.SIGCONT)

    await becomes_ready(people)
    await heard_settles(listener, dave, talk)
    for stream in streams:
        await stream.repeat()
    await listener.caught_up()
    await all_is_right(listener, dave, streams, changer)
    assert max(stream.wire.slowest for stream in streams) < 5
    assert {code for stream in streams for code in stream.failed()} <= {"UNAVAILABLE"}


async def test_mongod_stands_still_while_messages_are_changed(
    mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """No transaction that was cut off holds up its conversation, or any other, afterwards."""
    people = people_of(await start(mongo.url))
    alice, *friends = people("alice", *[f"friend{n}" for n in range(8)])
    talks = [await alice.direct(one) for one in friends]
    listener, *wires = [await Wire.connect(one) for one in (alice, *friends)]
    sent = [
        (await (await wire.say(talk, "x")))["data"] for wire, talk in zip(wires, talks, strict=True)
    ]
    results: dict[str, list[tuple[str, Answer]]] = {message["id"]: [] for message in sent}

    async def edit(wire: Wire, message: Any) -> None:
        while not any(answer and not answer["ok"] for _, answer in results[message["id"]]):
            text = f"{len(results[message['id']])}"
            answer = await (
                await wire.ask("message:edit", {"messageId": message["id"], "content": text})
            )
            results[message["id"]].append((text, answer))

    edits = [asyncio.create_task(edit(wire, one)) for wire, one in zip(wires, sent, strict=True)]
    await listener.until(lambda: len(listener.told("message:updated")) > 100)
    mongo.signal(signal.SIGSTOP)
    await asyncio.gather(*edits)
    mongo.signal(signal.SIGCONT)
    await becomes_ready(people)
    began = time.monotonic()
    failed = list(zip(wires, talks, strict=True))
    while failed:
        answers = [await wire.say(talk, "y", "y") for wire, talk in failed]
        done = await asyncio.gather(*answers)
        failed = [
            one for one, answer in zip(failed, done, strict=True) if not answer or not answer["ok"]
        ]
        assert time.monotonic() - began < 10, "conversations are held up"
    for wire, talk, message in zip(wires, talks, sent, strict=True):
        first, second = await history(alice, talk)
        assert (first["id"], second["seq"], second["content"]) == (message["id"], 2, "y")
        texts = results[message["id"]]
        assert first["content"] in (texts[-2][0], texts[-1][0])
        assert first["content"] == texts[-2][0] or first["rev"] > sent[0]["rev"]
        await wire.caught_up()
        heard = [one for one in wire.told("message:updated") if one["messageId"] == message["id"]]
        revs = [one["rev"] for one in heard]
        assert revs == sorted(set(revs))
        assert heard[-1]["content"] == first["content"]
        assert heard[-1]["rev"] == first["rev"]


async def test_nobody_waits_for_somebody_else_s_answer(
    mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Each caller hears UNAVAILABLE within 5 s, however many ask before, and whatever waits behind."""
    people = people_of(await start(mongo.url))
    alice, *friends = people("alice", *[f"friend{n}" for n in range(10)])
    talks = [await alice.direct(one) for one in friends]
    wires = [await Wire.connect(one) for one in friends]
    sent = [
        (await (await wire.say(talk, "x")))["data"] for wire, talk in zip(wires, talks, strict=True)
    ]
    mongo.signal(signal.SIGSTOP)
    asked = []
    for wire, talk, message in zip(wires, talks, sent, strict=True):
        # One batch after the other, and on each socket one after the other.
        asked.append(await wire.say(talk, "y"))
        for text in ("1", "2", "3"):
            asked.append(
                await wire.ask("message:edit", {"messageId": message["id"], "content": text})
            )
        asked.append(await wire.ask("messages:sync", {"conversationId": talk["id"], "afterRev": 0}))
        await asyncio.sleep(0.1)
    # And one who says everything at once.
    asked += [await wires[0].say(talks[0], f"{n}") for n in range(500)]
    answers = await asyncio.gather(*asked)
    mongo.signal(signal.SIGCONT)
    assert {answer and answer["error"]["code"] for answer in answers} == {"UNAVAILABLE"}
    assert max(wire.slowest for wire in wires) < 5.2


async def test_who_comes_back_while_the_going_is_being_recorded_is_here(
    mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(mongo.url, PRESENCE_GRACE_S="0"))
    alice, bob, carol = people("alice", "bob", "carol")
    await alice.group(bob, carol)
    listener = await Wire.connect(alice)
    phone = await Wire.connect(bob)
    await listener.until(lambda: listener.told("user:online"))
    for _ in range(3):
        await phone.close()
        await asyncio.sleep(0.1)
        mongo.signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)
        coming = asyncio.create_task(Wire.connect(bob))
        await asyncio.sleep(0.05)
        mongo.signal(signal.SIGCONT)
        phone = await coming
        await asyncio.sleep(0.5)
        assert (await alice.ask("GET", f"/users/{bob.id}/presence"))["status"] == "online"
        told = [
            name
            for name, one in listener.heard
            if name.startswith("user:o") and one["userId"] == bob.id
        ]
        assert told == ["user:online", "user:offline"] * (len(told) // 2) + ["user:online"]
    await Wire.connect(carol)
    await listener.until(
        lambda: carol.id in {one["userId"] for one in listener.told("user:online")}
    )


async def test_the_server_does_not_start_without_a_database(tmp_path: Path) -> None:
    nowhere = ChatServer("mongodb://127.0.0.1:1/?replicaSet=tests", "x", tmp_path / "log")
    with pytest.raises(AssertionError, match="MongoDB does not serve"):
        await nowhere.start()
    assert nowhere.process.returncode == 1
    assert "Traceback" not in nowhere.log


async def test_a_server_whose_database_is_gone_still_stops(
    mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(mongo.url)
    people = people_of(server)
    alice, bob = people("alice", "bob")
    desk = await Wire.connect(alice)
    talk = await alice.direct(bob)
    assert (await (await desk.say(talk, "x")))["ok"]
    mongo.signal(signal.SIGSTOP)
    answer = await desk.say(talk, "y")
    began = time.monotonic()
    assert await server.stop() == 0
    assert time.monotonic() - began < 12
    assert await answer is None
    mongo.signal(signal.SIGCONT)
    with pytest.raises(aiohttp.ClientError):
        await alice.ask("GET", "/conversations")
