"""Members on different nodes join, leave, type and read, and each receives the right events."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.support.people import People, Person
from tests.support.people_on_nodes import Spread
from tests.support.raw import Wire, history, rising
from tests.support.steady_talk import Stream, repeat_refused


def on(nodes: Spread, number: int, person: Person) -> Person:
    """The person, whose requests and sockets all use this node."""
    return Person(nodes.servers[number], person.id, person.session, nodes)


def path(talk: Any, person: Person) -> str:
    return f"/conversations/{talk['id']}/participants/{person.id}"


async def begin(streams: list[Stream]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(stream.run(0.01)) for stream in streams]


async def stop(streams: list[Stream], running: list[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.gather(*[answer for stream in streams for answer in stream.asked])


async def test_a_removed_member_receives_nothing_after_the_response(
    nodes: Spread, people: People
) -> None:
    alice, carol, dave, *bobs = people("alice", "carol", "dave", *["bob"] * 8)
    talk = await alice.group(carol, dave, *bobs)
    here = {"conversationId": talk["id"]}
    writers = [await Wire.connect(on(nodes, n, carol)) for n in range(3)]
    streams = [Stream(wire, talk) for wire in writers]
    running = await begin(streams)
    for n, bob in enumerate(bobs):
        wires = [await Wire.connect(on(nodes, number, bob)) for number in range(3)]
        await wires[0].until(lambda wires=wires: wires[0].told("message:new"))
        await on(nodes, n % 3, alice).ask("DELETE", path(talk, bob))
        last = (await carol.ask("GET", f"/conversations/{talk['id']}"))["lastSeq"]
        # From each node: an event that is not stored, and one that is.
        for writer in writers:
            await writer.do("recording:start", here)
            await writer.do("conversation:read", here)
        watch = await Wire.connect(on(nodes, n % 3, dave))
        for writer in writers:
            await writer.do("typing:start", here)
        await watch.until(lambda watch=watch: watch.told("user:typing"))
        for wire in wires:
            await wire.until(lambda wire=wire: wire.told("conversation:removed"))
            await wire.caught_up()
            assert len(wire.told("conversation:removed")) == 1
            assert all(message["seq"] <= last for message in wire.told("message:new"))
            after = wire.names[wire.names.index("conversation:removed") + 1 :]
            assert set(after) <= {"connected"}, after
            refused = await (await wire.say(talk, "Me too"))
            assert refused is not None
            assert refused["error"]["code"] == "NOT_FOUND"
        for writer in writers:
            await writer.do("typing:stop", here)
            await writer.do("recording:stop", here)
        await asyncio.gather(*[wire.close() for wire in (watch, *wires)])
    await stop(streams, running)
    listener = writers[0]
    await listener.caught_up()
    await repeat_refused(streams)
    assert len(listener.told("participant:removed")) == len(bobs)
    assert dave.id in [payload["userId"] for payload in listener.told("user:online")]
    assert (
        listener.told("message:new")
        == (await history(carol, talk))[-len(listener.told("message:new")) :]
    )
    for wire in writers:
        await wire.close()


async def test_a_blocked_or_deleted_user_is_disconnected_from_every_node(
    nodes: Spread, people: People
) -> None:
    for number in range(3):
        alice, bob = people("alice", "bob")
        talk = await alice.group(bob)
        everywhere = [on(nodes, n, bob) for n in range(3)]
        wires = [await Wire.connect(person) for person in everywhere]
        for person in everywhere:  # so that each node has cached that the user is active
            assert (await person.request("GET", "/conversations"))[0] == 200
        people.server = nodes.servers[number]
        if number % 2:
            status, _ = await people.master("DELETE", f"/users/{bob.id}")
            assert status == 204
        else:
            blocked = {"externalUserId": bob.id, "status": "blocked"}
            status, _ = await people.master("POST", "/users/sync", blocked)
            assert status == 200
        for person in everywhere:
            assert (await person.refused("GET", "/conversations")).code == "FORBIDDEN"
        await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Among us"})
        for wire in wires:
            await wire.ended()
            assert [error["code"] for error in wire.told("error")] == ["FORBIDDEN"]
            assert wire.told("message:new") == []
        again = await Wire.open(everywhere[0])
        await again.introduce()
        await again.until(lambda again=again: any(frame.startswith("44") for frame in again.frames))
        await again.close()


async def test_members_come_and_go_on_all_nodes_while_people_write(
    nodes: Spread, people: People
) -> None:
    """Each user who joins and leaves receives exactly the messages in between."""
    alice, bob, carol, *movers = people("alice", "bob", "carol", *["mover"] * 4)
    talk = await alice.group(bob, carol)
    for person in (bob, carol):
        await alice.ask("PATCH", path(talk, person), {"role": "admin"})
    owners = [on(nodes, n, person) for n, person in enumerate((alice, bob, carol))]
    writers = [await Wire.connect(owner) for owner in owners]
    moved = [await Wire.connect(on(nodes, n % 3, person)) for n, person in enumerate(movers)]
    streams = [Stream(wire, talk) for wire in writers]
    running = await begin(streams)

    async def change(owner: Person, chance: random.Random) -> None:
        for _ in range(25):
            who = chance.choice(movers)
            asked: tuple[Any, ...] = ("DELETE", path(talk, who))
            if chance.random() < 0.5:
                everybody = f"/conversations/{talk['id']}/participants"
                asked = ("POST", everybody, {"userIds": [who.id]})
            status, answer = await owner.request(*asked)
            assert status in (200, 201, 204, 404), answer

    await asyncio.gather(*[change(owner, random.Random(n)) for n, owner in enumerate(owners)])
    await stop(streams, running)
    await repeat_refused(streams)

    ends = ("message:new", "participant:added", "participant:removed")
    first = writers[0]
    for wire in (*writers, *moved):
        await wire.caught_up()
    told = [event for event in first.heard if event[0] in ends]
    for wire in writers[1:]:
        assert [event for event in wire.heard if event[0] in ends] == told
    assert first.told("message:new") == await history(alice, talk)
    stays = {
        participant["userId"]
        for participant in (await alice.ask("GET", f"/conversations/{talk['id']}"))["participants"]
    }
    for person, wire in zip(movers, moved, strict=True):
        expected, is_in = [], False
        for name, payload in told:
            if name == "message:new":
                expected += [payload] if is_in else []
            elif payload["userId"] == person.id:
                assert is_in == (name == "participant:removed"), "joins and removals alternate"
                is_in = name == "participant:added"
        assert wire.told("message:new") == expected
        assert is_in == (person.id in stays)
        moves = [
            name for name in wire.names if name in ("conversation:joined", "conversation:removed")
        ]
        assert moves == ["conversation:joined", "conversation:removed"] * (len(moves) // 2) + (
            ["conversation:joined"] if is_in else []
        )
    for wire in (*writers, *moved):
        await wire.close()


async def test_the_same_people_on_every_node_get_one_private_group(
    nodes: Spread, people: People
) -> None:
    everyone = people("alice", "bob", "carol")
    ids = [person.id for person in everyone]
    phones = [await Wire.connect(on(nodes, n, person)) for n, person in enumerate(everyone)]
    made = await asyncio.gather(
        *[
            on(nodes, n % 3, person).request("POST", "/conversations/private", {"userIds": ids})
            for n in range(6)
            for person in everyone
        ]
    )
    assert {status for status, _ in made} <= {200, 201}
    assert [status for status, _ in made].count(201) == 1
    assert len({view["id"] for _, view in made}) == 1
    for phone in phones:
        await phone.caught_up()
        assert [new["id"] for new in phone.told("conversation:new")] == [made[0][1]["id"]]
    said = [await (await phone.say(made[0][1], "Hello")) for phone in phones]
    for phone in phones:
        await phone.caught_up()
        assert phone.told("message:new") == [answer["data"] for answer in said if answer]
        await phone.close()


async def keep_typing(wire: Wire, talk: Any) -> None:
    """Repeat typing:start as clients do, because the indicator expires."""
    while True:
        await wire.do("typing:start", {"conversationId": talk["id"]})
        await asyncio.sleep(0.2)


async def test_two_devices_on_two_nodes_type_as_one(nodes: Spread, people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    here = {"conversationId": talk["id"]}
    desk, tablet = [await Wire.connect(on(nodes, n, alice)) for n in (0, 1)]
    phones = [await Wire.connect(on(nodes, n, bob)) for n in range(3)]

    async def heard() -> list[list[bool]]:
        for phone in phones:
            await phone.caught_up()
        return [[payload["isActive"] for payload in phone.told("user:typing")] for phone in phones]

    async def rests(wire: Wire, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await wire.do("typing:stop", here)

    at_desk = asyncio.create_task(keep_typing(desk, talk))
    assert await heard() == [[True]] * 3
    at_tablet = asyncio.create_task(keep_typing(tablet, talk))
    assert await heard() == [[True]] * 3
    await rests(desk, at_desk)
    assert await heard() == [[True]] * 3
    await rests(tablet, at_tablet)
    assert await heard() == [[True, False]] * 3
    # Once more: one socket closes, the other lets the indicator expire.
    at_desk = asyncio.create_task(keep_typing(desk, talk))
    at_tablet = asyncio.create_task(keep_typing(tablet, talk))
    assert await heard() == [[True, False, True]] * 3
    at_desk.cancel()
    await asyncio.gather(at_desk, return_exceptions=True)
    await desk.close()
    assert await heard() == [[True, False, True]] * 3
    at_tablet.cancel()
    await asyncio.gather(at_tablet, return_exceptions=True)
    for phone in phones:
        await phone.until(lambda phone=phone: len(phone.told("user:typing")) == 4)
    assert await heard() == [[True, False, True, False]] * 3
    for wire in (tablet, *phones):
        await wire.close()


async def test_read_marks_reach_every_member_on_every_node_once(
    nodes: Spread, people: People
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    hers = [await Wire.connect(on(nodes, n, alice)) for n in range(3)]
    his = [await Wire.connect(on(nodes, n, bob)) for n in range(3)]
    sent = [
        answer["data"] for n in range(9) if (answer := await (await hers[n % 3].say(talk, f"{n}")))
    ]
    # The same read mark on each node, one after another.
    for message in sent[:6]:
        target = {"messageId": message["id"]}
        answers = [await (await wire.ask("message:read", target)) for wire in his]
        assert all(answer and answer["ok"] for answer in answers)
    asked = [await wire.ask("conversation:read", {"conversationId": talk["id"]}) for wire in his]
    answers = await asyncio.gather(*asked)
    assert sorted(answer["data"]["count"] for answer in answers if answer) == [0, 0, 3]
    for wire in (*hers, *his):
        await wire.caught_up()
        assert [payload["messageId"] for payload in wire.told("message:read")] == [
            message["id"] for message in sent[:6]
        ]
        assert [payload["upToMessageId"] for payload in wire.told("conversation:read")] == [
            sent[-1]["id"]
        ]
    count = await on(nodes, 2, bob).ask("GET", f"/conversations/{talk['id']}/unread-count")
    assert count["count"] == 0
    for wire in (*hers, *his):
        await wire.close()


async def test_a_node_without_a_member_acts_for_its_users(nodes: Spread, people: People) -> None:
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    phones = [await Wire.connect(on(nodes, 0, person)) for person in (bob, carol)]
    far = on(nodes, 2, alice)
    talk = await far.group(bob)
    at = f"/conversations/{talk['id']}"
    sent = await far.ask("POST", f"{at}/messages", {"content": "One"})
    await far.ask("PATCH", f"/messages/{sent['id']}", {"content": "Won"})
    await on(nodes, 1, bob).ask("PUT", f"/messages/{sent['id']}/read")
    await far.ask("POST", f"{at}/participants", {"userIds": [carol.id, dave.id]})
    await far.ask("PATCH", at, {"name": "New"})
    await on(nodes, 1, alice).ask("POST", f"{at}/messages", {"content": "Two"})
    await far.ask("DELETE", path(talk, carol))
    await far.ask("DELETE", f"/messages/{sent['id']}")
    await far.ask("POST", f"{at}/messages", {"content": "Three"})
    await far.ask("DELETE", at)
    bobs, carols = phones
    for phone in phones:
        await phone.caught_up()
    marks = [n for n in bobs.names if n not in ("connected", "message:read", "user:online")]
    assert marks == [
        *("conversation:new", "message:new", "message:updated", "participant:added"),
        *("participant:added", "conversation:updated", "message:new", "participant:removed"),
        *("message:deleted", "message:new", "conversation:removed"),
    ]
    assert [payload["messageId"] for payload in bobs.told("message:read")] == [sent["id"]]
    assert [name for name in carols.names if name not in ("connected", "user:online")] == [
        *("conversation:joined", "participant:added", "participant:added"),
        *("conversation:updated", "message:new", "conversation:removed"),
    ]
    assert rising([message["rev"] for message in bobs.told("message:new")])
    for phone in phones:
        await phone.close()
