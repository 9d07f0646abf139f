"""Every client receives every change of a conversation once, and all receive them in one order."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.support.conversation_copy import CHANGES, Copy
from tests.support.people import People
from tests.support.raw import Answer, Wire, history, rising

IN_FLIGHT = 15
"""Unanswered sends per person. With more, a slow machine takes longer than the server's own deadline."""


def replay(events: list[tuple[str, Any]]) -> list[Any]:
    copy = Copy()
    copy.hear(events)
    return copy.in_order


async def test_three_people_send_and_change_without_waiting_and_all_see_the_same(
    people: People,
) -> None:
    everyone = alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    talk = await alice.group(bob, carol, dave)
    wires = [await Wire.connect(person) for person in everyone]
    chance = random.Random(7)
    asked: list[list[asyncio.Future[Answer]]] = [[], [], []]
    changes: list[asyncio.Future[Answer]] = []

    async def speak(number: int) -> None:
        wire = wires[number]
        for n in range(300):
            asked[number].append(await wire.say(talk, f"{number} {n}"))
            known = [
                message["id"]
                for message in wire.told("message:new")
                if message["senderId"] == wire.person.id
            ]
            if n % 5 == 0 and known:
                message_id = chance.choice(known[-20:])
                react = {"messageId": message_id, "emoji": chance.choice("👍👎🎉")}
                change, payload = chance.choice(
                    [
                        ("message:edit", {"messageId": message_id, "content": f"edited {n}"}),
                        ("reaction:add", react),
                        ("reaction:remove", react),
                        ("message:delete", {"messageId": message_id}),
                    ]
                )
                changes.append(await wire.ask(change, payload))
            if n >= IN_FLIGHT:
                await asked[number][n - IN_FLIGHT]

    await asyncio.gather(*[speak(number) for number in range(3)])
    for answers in asked:
        done = await asyncio.gather(*answers)
        assert all(answer and answer["ok"] for answer in done)
        seqs = [answer["data"]["seq"] for answer in done if answer]
        assert seqs == sorted(seqs), "each sender's messages keep their order"
    refusals = [
        answer["error"]["code"]
        for answer in await asyncio.gather(*changes)
        if answer and not answer["ok"]
    ]
    assert set(refusals) <= {"CONFLICT"}, "only a deleted message cannot be changed"
    assert len(changes) - len(refusals) > 50

    for wire in wires:
        await wire.caught_up()
    first = [event for event in wires[3].heard if event[0] in CHANGES]
    for wire in wires[:3]:
        assert [event for event in wire.heard if event[0] in CHANGES] == first
    revs = [told["rev"] for _, told in first]
    assert rising(revs)
    assert [told["seq"] for name, told in first if name == "message:new"] == list(range(1, 901))
    assert replay(first) == await history(dave, talk)


async def test_events_of_one_socket_take_effect_in_the_order_in_which_it_sends_them(
    people: People,
) -> None:
    """Sends, changes, marks and syncs: each sees the effects of earlier ones, whatever it waits for."""
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    phone, desk = await Wire.connect(bob), await Wire.connect(alice)
    where = {"conversationId": talk["id"]}
    first = (await (await phone.say(talk, "first")))["data"]
    target = {"messageId": first["id"]}
    rounds: list[asyncio.Future[list[Answer]]] = []
    for n in range(20):
        asked = [
            await phone.say(talk, f"plain {n}"),
            await phone.ask(
                "message:send", where | {"content": f"reply {n}", "replyTo": first["id"]}
            ),
            await phone.say(talk, f"behind {n}"),
            await phone.ask("message:edit", target | {"content": f"edit {n}"}),
            await phone.ask("messages:sync", where | {"afterRev": 0, "limit": 200}),
            await phone.ask("reaction:add", target | {"emoji": "👍"}),
            await phone.ask("ping"),
            await phone.ask("reaction:remove", target | {"emoji": "👍"}),
        ]
        # Three rounds at a time are in flight.
        rounds.append(asyncio.gather(*asked))
        if n >= 3:
            await rounds[n - 3]
    answers = [answer["data"] for done in rounds for answer in await done if answer]
    rows = [answers[8 * n : 8 * n + 8] for n in range(20)]
    for n, (plain, reply, behind, edited, synced, added, _, removed) in enumerate(rows):
        assert [plain["seq"], reply["seq"], behind["seq"]] == [3 * n + 2, 3 * n + 3, 3 * n + 4]
        assert edited["content"] == f"edit {n}"
        assert synced["messages"][-1]["content"] == f"edit {n}"
        assert {message["seq"] for message in synced["messages"]} == set(range(1, 3 * n + 5))
        assert [added["totalCount"], removed["totalCount"]] == [1, 0]
    await desk.caught_up()
    heard = [(name, told["rev"]) for name, told in desk.heard if name in CHANGES]
    assert [rev for _, rev in heard] == list(range(1, 1 + 1 + 20 * 6))
    per_round = ["message:new"] * 3 + ["message:updated", "reaction:added", "reaction:removed"]
    assert [name for name, _ in heard] == ["message:new"] + per_round * 20


async def test_many_concurrent_changes_of_one_message_are_each_announced_once(
    people: People,
) -> None:
    everyone = people(*[f"friend{n}" for n in range(12)])
    talk = await everyone[0].group(*everyone[1:])
    wires = await asyncio.gather(*[Wire.connect(person) for person in everyone])
    message = (await (await wires[0].say(talk, "x")))["data"]
    emoji = ["👍", "🎉", "❤️"]
    answers: list[Answer] = []
    for event in ("reaction:add", "reaction:add", "reaction:remove", "reaction:add"):
        asked = [
            await wire.ask(event, {"messageId": message["id"], "emoji": symbol})
            for symbol in emoji
            for wire in wires
        ]
        answers += await asyncio.gather(*asked)
    edits = [
        await wires[0].ask("message:edit", {"messageId": message["id"], "content": f"{n}"})
        for n in range(20)
    ]
    answers += await asyncio.gather(*edits)
    assert all(answer and answer["ok"] for answer in answers)
    for wire in wires:
        await wire.caught_up()
        heard = [event for event in wire.heard if event[0] in CHANGES]
        # A repeat is no change. So there is on, off and on again per person and emoji, and the edits.
        assert len(heard) == 1 + 3 * 3 * 12 + 20
        assert [told["rev"] for _, told in heard] == list(range(1, len(heard) + 1))
        assert replay(heard) == await history(everyone[0], talk)


async def test_a_socket_that_connects_in_the_middle_receives_everything_from_then_on(
    people: People,
) -> None:
    """There is no gap between sync and live events. Only a sync may repeat a change."""
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await Wire.connect(alice)
    stop = asyncio.Event()

    async def speak() -> None:
        n = 0
        while not stop.is_set():
            answers = [await desk.say(talk, f"{n} {number}") for number in range(5)]
            n += 1
            await asyncio.gather(*answers)

    speaking = asyncio.create_task(speak())
    for _ in range(8):
        phone = await Wire.connect(bob)
        synced = await phone.do(
            "messages:sync", {"conversationId": talk["id"], "afterRev": 0, "limit": 1}
        )
        upto = synced["lastSeq"]
        await phone.until(
            lambda phone=phone, upto=upto: any(
                message["seq"] > upto + 10 for message in phone.told("message:new")
            )
        )
        seqs = [message["seq"] for message in phone.told("message:new")]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert seqs[0] <= upto + 1, "nothing is lost between sync and live events"
        await phone.close()
    stop.set()
    await speaking


async def test_the_same_change_from_two_devices_at_once_happens_and_is_announced_once(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    phone, desk, listener = [await Wire.connect(person) for person in (alice, alice, bob)]
    sent = [(await (await desk.say(talk, f"{n}")))["data"] for n in range(10)]
    changes: list[tuple[str, dict[str, str]]] = [
        ("message:edit", {"content": "The same"}),
        ("reaction:add", {"emoji": "👍"}),
        ("message:delete", {"scope": "self"}),
        ("message:delete", {}),
    ]
    for event, more in changes:
        asked = [
            await wire.ask(event, {"messageId": message["id"], **more})
            for message in sent
            for wire in (phone, desk)
        ]
        assert all(answer and answer["ok"] for answer in await asyncio.gather(*asked))
    for wire, kinds in ((phone, 4), (desk, 4), (listener, 3)):
        await wire.caught_up()
        heard = [
            (name, told) for name, told in wire.heard if name in CHANGES and name != "message:new"
        ]
        assert len(heard) == kinds * len(sent)
        assert rising([told["rev"] for _, told in heard])
