"""An acknowledged message survives a kill -9 of the server, once and in its place."""

from __future__ import annotations

import asyncio
import functools
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Starter
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.raw import Answer, Wire, history, rising, when
from tests.support.servers import ChatServer


async def unread_counts(people: Any, talk: dict[str, Any]) -> list[int]:
    path = f"/conversations/{talk['id']}/unread-count"
    return [(await person.ask("GET", path))["count"] for person in people]


async def test_a_kill_in_a_stream_of_sends_loses_and_duplicates_nothing(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start()
    people = people_of(server)
    alice, bob, carol, dave = everyone = people("alice", "bob", "carol", "dave")
    talk, other = await alice.group(bob, carol, dave), await alice.group(dave)
    wires = [await Wire.connect(person) for person in (alice, bob, carol)]
    await (await wires[0].say(other, "Last but one"))
    count = 500
    asked: list[tuple[int, asyncio.Future[Answer]]] = []
    acked = 0
    ahead = [asyncio.Semaphore(100) for _ in wires]

    def note(number: int, answer: asyncio.Future[Answer]) -> None:
        nonlocal acked
        ahead[number].release()
        acked += answer.result() is not None
        # Kill from the callback: a task could get its turn only after the last reply.
        if acked == 300:
            server.signal(signal.SIGKILL)

    async def stream(number: int) -> None:
        for n in range(count):
            await ahead[number].acquire()
            answer = await wires[number].say(talk, f"{number} {n}", f"{n}")
            answer.add_done_callback(functools.partial(note, number))
            asked.append((number, answer))

    await asyncio.gather(*(stream(number) for number in range(3)))
    await server.kill()
    for wire in wires:
        await wire.ended()
    answers: dict[int, list[Answer]] = {number: [] for number in range(3)}
    for number, answer in asked:
        answers[number].append(await answer)
    stored = {
        message["id"]: message
        for several in answers.values()
        for answer in several
        if answer is not None and answer["ok"]
        for message in [answer["data"]]
    }
    assert 300 <= len(stored) < 3 * count, "the kill happened in the middle"

    await server.start()
    log = await history(dave, talk)
    by_id = {message["id"]: message for message in log}
    assert {message_id: by_id.get(message_id) for message_id in stored} == stored
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    assert (await dave.ask("GET", "/conversations"))["items"][0]["id"] == talk["id"]

    # Each client first repeats the messages that were not acknowledged, in the same order.
    again = [await Wire.connect(person) for person in (alice, bob, carol)]
    repeats: list[asyncio.Future[Answer]] = []
    for number, wire in enumerate(again):
        for n in range(count):
            answer = answers[number][n] if n < len(answers[number]) else None
            if answer is None or not answer["ok"] or n % 7 == 0:
                repeats.append(await wire.say(talk, f"{number} {n}", f"{n}"))
    assert [
        answer for answer in await asyncio.gather(*repeats) if answer is None or not answer["ok"]
    ] == []

    log = await history(dave, talk)
    assert [message["seq"] for message in log] == list(range(1, 3 * count + 1))
    revs = [message["rev"] for message in log]
    assert rising(revs)
    for number, person in enumerate((alice, bob, carol)):
        said = [message["content"] for message in log if message["senderId"] == person.id]
        assert said == [f"{number} {n}" for n in range(count)]
    by_id = {message["id"]: message for message in log}
    assert {message_id: by_id.get(message_id) for message_id in stored} == stored
    assert await unread_counts(everyone, talk) == [2 * count, 2 * count, 2 * count, 3 * count]
    listed = (await dave.ask("GET", "/conversations"))["items"]
    assert [(conversation["id"], conversation["unreadCount"]) for conversation in listed] == [
        (talk["id"], 3 * count),
        (other["id"], 1),
    ]
    assert listed[0]["lastMessage"] == log[-1]


async def test_the_list_is_in_order_after_a_kill_right_after_an_acknowledgement(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start()
    alice, bob = people_of(server)("alice", "bob")
    talks = [await alice.group(bob, name=f"{n}") for n in range(6)]
    desk = await Wire.connect(alice)
    for talk in talks:
        await (await desk.say(talk, "One after the other"))
    # The next messages arrive faster than the order of the list is written.
    for n in range(5):
        answer = await (await desk.say(talks[n], "And again"))
        assert answer is not None
        assert answer["ok"]
        await asyncio.sleep(0.002)
    await server.kill()
    await server.start()
    listed = [
        conversation["name"] for conversation in (await bob.ask("GET", "/conversations"))["items"]
    ]
    assert listed == ["4", "3", "2", "1", "0", "5"]


async def test_conversations_continue_immediately_after_a_kill_in_a_stream_of_edits(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """The dead server's transactions are still open in the database, but must not delay any caller."""
    server = await start()
    people = people_of(server)
    alice, *others = people("alice", *[f"friend{n}" for n in range(8)])
    talks = [await alice.direct(person) for person in others]
    wires = [await Wire.connect(person) for person in others]
    sent = [
        (await (await wire.say(talk, "x")))["data"] for wire, talk in zip(wires, talks, strict=True)
    ]
    texts: dict[str, list[str]] = {}
    rounds = 0

    async def edit(wire: Wire, message: Any) -> None:
        nonlocal rounds
        while not wire.gone.is_set():
            text = f"{random.random()}"
            answer = await (
                await wire.ask("message:edit", {"messageId": message["id"], "content": text})
            )
            rounds += 1
            if answer is not None and answer["ok"]:
                texts[message["id"]] = [text]
            else:
                texts[message["id"]].append(text)

    edits = [
        asyncio.create_task(edit(wire, message)) for wire, message in zip(wires, sent, strict=True)
    ]
    await when(lambda: rounds >= 100)
    await server.kill()
    await asyncio.gather(*edits)
    await server.start()

    again = [await Wire.connect(person) for person in others]
    began = time.monotonic()
    answers = await asyncio.gather(
        *[await wire.say(talk, "y", "y") for wire, talk in zip(again, talks, strict=True)]
    )
    changes = [
        await wire.ask("reaction:add", {"messageId": message["id"], "emoji": "👍"})
        for wire, message in zip(again, sent, strict=True)
    ]
    answers += await asyncio.gather(*changes)
    assert [answer for answer in answers if answer is None or not answer["ok"]] == []
    assert time.monotonic() - began < 5 * slowness()
    for talk, message in zip(talks, sent, strict=True):
        first, second = await history(alice, talk)
        assert [first["seq"], second["seq"], second["content"]] == [1, 2, "y"]
        assert (first["id"], [reaction["emoji"] for reaction in first["reactions"]]) == (
            message["id"],
            ["👍"],
        )
        # The last edit may be stored without an acknowledgement. An acknowledged edit is never undone.
        assert first["content"] in texts[first["id"]]
        assert first["rev"] > second["rev"]
