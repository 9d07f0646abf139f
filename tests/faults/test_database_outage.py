"""The database fails while people are talking, and recovers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Starter
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.raw import Answer, Wire, history, when
from tests.support.servers import ChatServer, MongoServer
from tests.support.steady_talk import (
    Changer,
    Stream,
    Talk,
    all_is_right,
    becomes_ready,
    begin,
    end,
    heard_settles,
    ready,
)


async def all_goes_on(
    people: People, talk: Talk, listener: Wire, streams: list[Stream], changer: Changer
) -> None:
    """The database is back. Failed messages are sent again, and no caller waited long for the error."""
    reader = listener.person
    await becomes_ready(people)
    await heard_settles(listener, reader, talk)
    for stream in streams:
        await stream.repeat()
    await listener.caught_up()
    await all_is_right(listener, reader, streams, changer)
    assert max(stream.wire.slowest for stream in streams) < 5 * slowness()
    assert {code for stream in streams for code in stream.failed()} <= {"UNAVAILABLE"}


async def test_mongod_is_killed_and_started_again(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(own_mongo.url))
    talk, listener, streams, changer, running = await begin(people)
    bob, dave = streams[1].wire.person, listener.person
    await listener.until(lambda: len(listener.told("message:new")) > 150)
    own_mongo.kill()
    killed = time.monotonic()
    await when(streams[0].failed)
    assert time.monotonic() - killed < 5 * slowness()
    await end(streams, running)

    # Every door replies UNAVAILABLE, in time.
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
    assert time.monotonic() - began < 5.2 * slowness()
    assert [(error.code, error.status) for error in refusals] == [("UNAVAILABLE", 503)] * len(asked)
    assert await ready(people) == 503
    async with people.session.get(f"{people.server.rest}/health") as answer:
        assert answer.status == 200
    await asyncio.to_thread(own_mongo.start)
    await all_goes_on(people, talk, listener, streams, changer)
    for wire in (listener, *[stream.wire for stream in streams]):
        assert not wire.gone.is_set(), (
            "an outage of the database is no reason to lose the connection"
        )


async def test_mongod_freezes_and_continues(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Writes that were under way arrive late, after they were answered with UNAVAILABLE."""
    people = people_of(await start(own_mongo.url))
    talk, listener, streams, changer, running = await begin(people)
    await listener.until(lambda: len(listener.told("message:new")) > 50)
    for _ in range(5):
        # A short freeze: clients notice nothing but a delay.
        own_mongo.signal(signal.SIGSTOP)
        await asyncio.sleep(0.1)
        own_mongo.signal(signal.SIGCONT)
        await asyncio.sleep(0.05)
    assert not any(stream.failed() for stream in streams)
    own_mongo.signal(signal.SIGSTOP)
    await when(lambda: all(stream.failed() for stream in streams))
    assert await ready(people) == 503
    await end(streams, running)
    own_mongo.signal(signal.SIGCONT)

    await all_goes_on(people, talk, listener, streams, changer)


async def test_mongod_freezes_while_messages_are_changed(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """An interrupted transaction does not block its conversation, or any other, afterwards."""
    people = people_of(await start(own_mongo.url))
    alice, *friends = people("alice", *[f"friend{n}" for n in range(8)])
    talks = [await alice.direct(person) for person in friends]
    listener, *wires = [await Wire.connect(person) for person in (alice, *friends)]
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

    edits = [
        asyncio.create_task(edit(wire, message)) for wire, message in zip(wires, sent, strict=True)
    ]
    await listener.until(lambda: len(listener.told("message:updated")) > 100)
    own_mongo.signal(signal.SIGSTOP)
    await asyncio.gather(*edits)
    own_mongo.signal(signal.SIGCONT)
    await becomes_ready(people)
    began = time.monotonic()
    failed = list(zip(wires, talks, strict=True))
    while failed:
        answers = [await wire.say(talk, "y", "y") for wire, talk in failed]
        done = await asyncio.gather(*answers)
        failed = [
            pair
            for pair, answer in zip(failed, done, strict=True)
            if not answer or not answer["ok"]
        ]
        assert time.monotonic() - began < 10 * slowness(), "conversations are blocked"
    for wire, talk, message in zip(wires, talks, sent, strict=True):
        first, second = await history(alice, talk)
        assert (first["id"], second["seq"], second["content"]) == (message["id"], 2, "y")
        texts = results[message["id"]]
        assert first["content"] in (texts[-2][0], texts[-1][0])
        assert first["content"] == texts[-2][0] or first["rev"] > sent[0]["rev"]
        # A change that was stored without an answer is found and announced a moment later.
        await wire.until(lambda wire=wire: wire.told("message:new")[-1]["content"] == "y")
        heard = [
            payload
            for payload in wire.told("message:updated")
            if payload["messageId"] == message["id"]
        ]
        revs = [payload["rev"] for payload in heard]
        assert revs == sorted(set(revs))
        assert heard[-1]["content"] == first["content"]
        assert heard[-1]["rev"] == first["rev"]
