"""RealtimeServer on several nodes with RedisClientManager acts as one server."""

from __future__ import annotations

import asyncio

from tests.support.echo_clients import CALLBACK_S, KEEP_FOR_S, PREFIX, Client, Nodes, until
from tests.support.redises import RedisServer


async def test_a_room_has_members_on_three_nodes(guests: list[Client]) -> None:
    ann, ben, cat, dan, eve, fay = guests
    for guest in (ann, ben, cat, dan):
        await guest.do("enter_room", sid=guest.id, room="lobby")
    data = [{"name": "x"}, 1]
    await ann.do("emit", event="news", data=data, room="lobby", skip_sid=[dan.id, cat.id])
    for guest in (ann, ben):
        assert await guest.hears() == ("news", data)
    await eve.do("emit", event="from outside", room="lobby")
    for guest in (ann, ben, cat, dan):
        assert await guest.hears() == ("from outside",)
    await fay.do("emit", event="file", data=b"\1\2\n", room="lobby", skip_sid=ann.id)
    await fay.do("emit", event="file", data={"a": b"", "b": [b"\3"]}, room="lobby")
    for guest in (ben, cat, dan):
        assert await guest.hears() == ("file", b"\1\2\n")
    for guest in (ann, ben, cat, dan):
        assert await guest.hears() == ("file", {"a": b"", "b": [b"\3"]})
    await dan.do("emit", event="for all")
    for guest in guests:
        assert await guest.hears() == ("for all",)
    for guest in guests:
        await guest.nothing_more()


async def test_an_event_for_several_rooms_reaches_each_member_once(guests: list[Client]) -> None:
    ann, ben, cat, dan, eve, fay = guests
    for guest in (ann, ben, dan):
        await guest.do("enter_room", sid=guest.id, room="tea")
    for guest in (ben, cat, dan):
        await guest.do("enter_room", sid=guest.id, room="coffee")
    await eve.do("enter_room", sid=eve.id, room=7)
    for number in range(20):
        for guest in (ann, fay):
            data = [guest.id, number]
            await guest.do("emit", event="cups", data=data, room=["tea", "coffee", 7, eve.id])
    for guest in (ann, ben, cat, dan, eve):
        heard = [await guest.hears() for _ in range(40)]
        for speaker in (ann, fay):
            theirs = [number for _, (sid, number) in heard if sid == speaker.id]
            assert theirs == list(range(20))
    for guest in guests:
        await guest.nothing_more()


async def test_namespaces_are_separate(three: Nodes) -> None:
    ann, ben = [await Client.at(node, "/custom") for node in three[:2]]
    for namespace in ("/", "/custom"):
        sid = str(ann.get_sid(namespace))
        await ann.call("do", ("enter_room", {"sid": sid, "room": "lobby"}), namespace)
    await ben.call("do", ("emit", {"event": "custom", "room": "lobby"}), "/custom")
    await ben.do("emit", event="main", room="lobby")
    await ben.call("do", ("emit", {"event": "all of custom"}), "/custom")
    assert [await ann.hears() for _ in range(3)] == [("custom",), ("main",), ("all of custom",)]
    assert await ben.hears() == ("all of custom",)
    await ann.disconnect()
    await ben.disconnect()


async def test_a_node_without_a_member_receives_nothing_of_a_room(
    own_redis: RedisServer, guests: list[Client]
) -> None:
    ann, ben, cat, *_ = guests
    channel = f'{PREFIX}["/","lobby"]'

    async def hear_it(nodes: int) -> bool:
        return await own_redis.receivers(channel) == nodes

    assert await hear_it(0)
    await ann.do("enter_room", sid=ann.id, room="lobby")
    assert await hear_it(1), "when enter_room returned"
    await ben.do("enter_room", sid=ben.id, room="lobby")
    assert await hear_it(2)
    before = (await cat.told())["received"]
    await ann.call("burst", ("lobby", 200), timeout=10)
    assert [await ben.hears() for _ in range(200)] == [("number", ann.id, n) for n in range(200)]
    assert (await cat.told())["received"] == before

    # A client that returns to the room in time keeps it subscribed.
    await ben.do("leave_room", sid=ben.id, room="lobby")
    assert await hear_it(2)
    await ben.do("enter_room", sid=ben.id, room="lobby")
    await asyncio.sleep(KEEP_FOR_S * 2)
    assert await hear_it(2)
    await ben.disconnect()
    await until(lambda: hear_it(1))
    await ann.do("leave_room", sid=ann.id, room="lobby")
    await until(lambda: hear_it(0))


async def test_events_of_one_node_arrive_in_order(guests: list[Client]) -> None:
    ann, ben, cat, *_ = guests
    for guest in (ann, ben, cat):
        await guest.do("enter_room", sid=guest.id, room="lobby")
    await asyncio.gather(*[guest.call("burst", ("lobby", 500), timeout=20) for guest in guests[3:]])
    for guest in (ann, ben, cat):
        heard = [await guest.hears() for _ in range(1500)]
        for speaker in guests[3:]:
            theirs = [number for _, sid, number in heard if sid == speaker.id]
            assert theirs == list(range(500))


async def test_a_client_on_another_node_receives_events_and_acknowledges_them(
    guests: list[Client],
) -> None:
    ann, ben, cat, dan, *_ = guests
    await ann.do("emit", event="psst", data=["a", 1], to=ben.id)
    assert await ben.hears() == ("psst", ["a", 1])
    question = {"event": "question", "data": [1, {"a": "ü"}], "to": ben.id}
    assert await ann.do("call", **question) == ([1, {"a": "ü"}], "and me")
    assert await ann.do("call", event="binary question", data=b"\1", to=cat.id) == {"data": b"\1\0"}
    assert await dan.do("call", event="question", data=2, to=ann.id) == (2, "and me"), (
        "on the same node"
    )
    # Many at the same time, from several nodes to one client.
    asked = [
        guest.do("call", event="question", data=[guest.id, n], to=cat.id)
        for n in range(50)
        for guest in (ann, ben, cat)
    ]
    answers = await asyncio.gather(*asked)
    assert answers == [([guest.id, n], "and me") for n in range(50) for guest in (ann, ben, cat)]

    late = await ann.do("call", event="silent question", to=ben.id, timeout=0.3)
    assert late == "TimeoutError()"
    nobody = await ann.do("call", event="question", to=f"{'0' * 16}.{'x' * 20}", timeout=0.3)
    assert nobody == "TimeoutError()"
    for guest in guests:
        await guest.nothing_more()


async def test_a_callback_for_a_room_gets_every_acknowledgement_in_time(
    guests: list[Client],
) -> None:
    ann, ben, cat, dan, *_ = guests
    for guest in (ann, ben, cat):
        await guest.do("enter_room", sid=guest.id, room="lobby")

    async def late() -> str:
        await asyncio.sleep(CALLBACK_S * 1.5)
        return "late"

    for guest, name in ((ann, "ann"), (cat, "cat")):
        guest.on("who?", lambda name=name: name)
    ben.on("who?", late)
    await dan.call("ask", {"event": "who?", "room": "lobby"})
    assert sorted([await dan.hears(), await dan.hears()]) == [("answer", "ann"), ("answer", "cat")]
    await asyncio.sleep(CALLBACK_S * 2)
    await dan.nothing_more()


async def test_clients_on_other_nodes_enter_and_leave_rooms(guests: list[Client]) -> None:
    ann, ben, cat, *_ = guests
    for guest in (ann, ben, cat):
        await ann.do("enter_room", sid=guest.id, room="lobby")
    # When enter_room has returned, the client is in the room.
    await ann.do("emit", event="welcome", room="lobby")
    for guest in (ann, ben, cat):
        assert await guest.hears() == ("welcome",)
    await cat.do("leave_room", sid=ben.id, room="lobby")
    await ann.do("emit", event="without ben", room="lobby")
    for guest in (ann, cat):
        assert await guest.hears() == ("without ben",)
    async with asyncio.timeout(0.5):
        await ben.do("close_room", room="lobby")
    await ann.do("emit", event="for nobody", room="lobby")
    await ann.do("emit", event="for all")
    for guest in guests:
        assert await guest.hears() == ("for all",)
    for guest in guests:
        await guest.nothing_more()
    assert "cannot enter a sid room" in await ann.do("enter_room", sid=ann.id, room=ben.id)
    assert "cannot enter a sid room" in await ann.do("enter_room", sid=ben.id, room=cat.id)
    assert "cannot close a sid room" in await ann.do("close_room", room=ben.id)
    assert "A room name must be" in await ann.do("enter_room", sid=ann.id, room=1.5)
    gone = f"{ben.id[:16]}.{'x' * 20}"
    assert await ann.do("enter_room", sid=gone, room="lobby") is None


async def test_a_client_on_another_node_is_disconnected(guests: list[Client]) -> None:
    ann, ben, _, _, eve, _ = guests
    await ann.do("emit", event="go", to=ben.id)
    await ann.do("disconnect", sid=ben.id)
    assert await ben.hears() == ("go",)
    await asyncio.wait_for(ben.wait(), 2)
    gone = (await eve.told())["gone"]
    assert [line.partition(" ")[2] for line in gone] == ["server disconnect"]
    assert (await ann.told())["gone"] == []
    await ann.do("disconnect", sid=ben.id)
