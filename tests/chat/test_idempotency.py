"""The same clientMessageId of one user in one conversation always means the same message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.conftest import Starter
from tests.support.patience import slowness
from tests.support.people import People, Person
from tests.support.raw import Wire, history, rising
from tests.support.servers import ChatServer


async def say_over_rest(
    person: Person, talk: dict[str, Any], text: str, once: str
) -> tuple[int, Any]:
    path = f"/conversations/{talk['id']}/messages"
    return await person.request("POST", path, {"content": text, "clientMessageId": once})


async def test_fifty_concurrent_repeats_from_two_devices_and_rest_give_one_message(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    phone, desk, listener = await asyncio.gather(
        Wire.connect(alice), Wire.connect(alice), Wire.connect(bob)
    )
    rest = [asyncio.create_task(say_over_rest(alice, talk, "Once", "same")) for _ in range(20)]
    asked = []
    for _ in range(15):
        asked += [await phone.say(talk, "Once", "same"), await desk.say(talk, "Once", "same")]
    answers = await asyncio.gather(*asked)
    replies = await asyncio.gather(*rest)
    message = answers[0]["data"]
    assert message["clientMessageId"] == "same"
    assert all(answer == {"ok": True, "data": message} for answer in answers)
    assert all(body == message for _, body in replies)
    assert sorted(status for status, _ in replies)[:19] == [200] * 19
    assert sum(status == 201 for status, _ in replies) <= 1
    for device in (phone, desk, listener):
        await device.caught_up()
        assert device.told("message:new") == [message]
    assert await history(bob, talk) == [message]


async def test_a_repeat_returns_the_first_message_even_if_its_content_differs(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, listener = await asyncio.gather(Wire.connect(alice), Wire.connect(bob))
    first = (await (await desk.say(talk, "As it was", "x")))["data"]
    assert (await (await desk.say(talk, "Quite different", "x")))["data"] == first
    edited = await desk.do("message:edit", {"messageId": first["id"], "content": "As it is"})
    assert (await (await desk.say(talk, "As it was", "x")))["data"] == edited
    await desk.do("message:delete", {"messageId": first["id"]})
    again = (await (await desk.say(talk, "As it was", "x")))["data"]
    assert (again["id"], again["seq"], again["isDeleted"], again["content"]) == (
        first["id"],
        1,
        True,
        "",
    )
    await listener.caught_up()
    assert listener.told("message:new") == [first]


async def test_the_same_id_of_another_sender_or_in_another_conversation_is_another_message(
    people: People,
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, other = await alice.group(bob, carol), await alice.group(bob)
    wires = await asyncio.gather(*[Wire.connect(person) for person in (alice, bob, carol)])
    answers = await asyncio.gather(
        *[await wire.say(talk, wire.person.id, "same") for wire in wires]
    )
    elsewhere = await (await wires[0].say(other, "Elsewhere", "same"))
    messages = [answer["data"] for answer in [*answers, elsewhere]]
    assert len({message["id"] for message in messages}) == 4
    assert sorted(message["seq"] for message in messages) == [1, 1, 2, 3]
    assert [message["senderId"] for message in messages[:3]] == [alice.id, bob.id, carol.id]


async def test_the_id_of_a_refused_message_can_be_used_again(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await Wire.connect(alice)
    assert not (await (await desk.say(talk, "   ", "x")))["ok"]
    reply = {
        "conversationId": talk["id"],
        "content": "y",
        "replyTo": "nothing",
        "clientMessageId": "x",
    }
    assert not (await (await desk.ask("message:send", reply)))["ok"]
    assert (await (await desk.say(talk, "At last", "x")))["data"]["seq"] == 1


async def test_repeats_after_a_restart_affect_neither_each_other_nor_new_messages(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """The server has forgotten the ids; only the database knows them."""
    server = await start()
    people = people_of(server)
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    desk = await Wire.connect(alice)
    before = await asyncio.gather(
        *[await desk.say(talk, f"Old {n}", f"old-{n}") for n in range(60)]
    )
    assert all(answer["ok"] for answer in before)
    assert await server.stop() == 0
    await server.start()

    wires = await asyncio.gather(*[Wire.connect(person) for person in (alice, bob, carol)])
    mine, bobs, carols = [], [], []
    # Old and new messages are mixed: some must be looked up in the database, others need not.
    for n in range(60):
        mine.append(await wires[0].say(talk, f"Old {n}", f"old-{n}"))
        if n % 6 == 5:
            mine.append(await wires[0].say(talk, f"New {n}", f"new-{n}"))
        bobs.append(await wires[1].say(talk, f"Bob {n}", f"b-{n}"))
        carols.append(await wires[2].say(talk, f"Carol {n}"))
    answers = await asyncio.gather(*mine, *bobs, *carols)
    assert [answer for answer in answers if not answer["ok"]] == []
    assert max(wire.slowest for wire in wires) < 2.0 * slowness()

    repeated = [
        answer["data"] for answer in answers[:70] if answer["data"]["content"].startswith("Old")
    ]
    assert repeated == [answer["data"] for answer in before]
    log = await history(bob, talk)
    assert [message["seq"] for message in log] == list(range(1, 191))
    assert [message["rev"] for message in log] == list(range(1, 191))
    assert [message["id"] for message in log] == sorted(message["id"] for message in log)
    for name, count in (("Bob", 60), ("Carol", 60), ("New", 10)):
        numbers = [
            int(message["content"].split()[1])
            for message in log
            if message["content"].startswith(name)
        ]
        assert numbers == sorted(numbers)
        assert len(numbers) == count
    for wire in wires:
        await wire.caught_up()
        assert wire.told("message:new") == log[60:]


async def test_two_servers_on_one_database_agree_on_one_order(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """The servers are not connected. Each announces only its own messages, but all are stored in order."""
    first, second = await start(), await start(LOG_LEVEL="warning")
    here, there = people_of(first), people_of(second)
    alice, bob, carol = here("alice", "bob", "carol")
    alice_there, bob_there = (Person(second, person.id, there.session) for person in (alice, bob))
    talk = await alice.group(bob, carol)
    wires = await asyncio.gather(
        *[Wire.connect(person) for person in (alice, bob, carol, alice_there, bob_there)]
    )
    asked: list[tuple[Wire, asyncio.Future[Any]]] = []
    for n in range(80):
        for wire in wires:
            asked.append(
                (wire, await wire.say(talk, f"{wires.index(wire)} {n}", f"{wires.index(wire)}-{n}"))
            )
        if n % 4 == 0:
            # The same message through both servers at the same time.
            for wire in (wires[0], wires[3]):
                asked.append((wire, await wire.say(talk, "Both", f"both-{n}")))
        await asyncio.sleep(0.001)
    answers = await asyncio.gather(*[answer for _, answer in asked])
    assert [answer for answer in answers if not answer["ok"]] == []

    log = await history(bob, talk)
    assert [message["seq"] for message in log] == list(range(1, 5 * 80 + 20 + 1))
    revs = [message["rev"] for message in log]
    assert rising(revs)
    assert len({(message["senderId"], message["clientMessageId"]) for message in log}) == len(log)
    for number in range(len(wires)):
        sent = [
            message["content"] for message in log if message["content"].startswith(f"{number} ")
        ]
        assert sent == [f"{number} {n}" for n in range(80)]
    by_id = {message["id"]: message for message in log}
    assert all(by_id[answer["data"]["id"]] == answer["data"] for answer in answers)
    for wire in wires:
        await wire.caught_up()
        seqs = [message["seq"] for message in wire.told("message:new")]
        assert seqs == sorted(set(seqs)), "live events are in order, and none is repeated"


async def test_two_servers_lose_no_concurrent_change_of_one_message(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    first, second = await start(), await start(LOG_LEVEL="warning")
    here, there = people_of(first), people_of(second)
    everyone = here("alice", "bob", "carol", "dave", "erin", "frank")
    talk = await everyone[0].group(*everyone[1:])
    wires = await asyncio.gather(
        *[
            Wire.connect(person if n % 2 else Person(second, person.id, there.session))
            for n, person in enumerate(everyone)
        ]
    )
    message = (await (await wires[0].say(talk, "What do you think?")))["data"]
    asked = []
    for n in range(5):
        for wire in wires:
            asked.append(
                await wire.ask("reaction:add", {"messageId": message["id"], "emoji": "👍"})
            )
        asked.append(await wires[n].say(talk, f"And then {n}"))
        for wire in wires:
            asked.append(
                await wire.ask("reaction:remove", {"messageId": message["id"], "emoji": "👍"})
            )
            asked.append(
                await wire.ask("reaction:add", {"messageId": message["id"], "emoji": "👍"})
            )
    answers = await asyncio.gather(*asked)
    assert [answer for answer in answers if not answer["ok"]] == []
    log = await history(everyone[0], talk)
    assert [(reaction["emoji"], reaction["count"]) for reaction in log[0]["reactions"]] == [
        ("👍", 6)
    ]
    assert sorted(log[0]["reactions"][0]["userIds"]) == sorted(person.id for person in everyone)
    assert [message["seq"] for message in log] == [1, 2, 3, 4, 5, 6]
    synced = await wires[0].do("messages:sync", {"conversationId": talk["id"], "afterRev": 0})
    # Each makes three changes in the first round and two in each of the other four. There are six messages.
    assert synced["lastRev"] == 6 * (3 + 4 * 2) + 6
