"""Presence and read marks are notices. Nodes that miss a notice find it in the database, and deliver it once."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest

from tests.support.comings_and_goings import GRACE_S, arrive, crowd, heard_of
from tests.support.people import People
from tests.support.people_on_nodes import Spread
from tests.support.raw import Wire
from tests.support.redises import RedisServer

SOON_S = 4.0
"""Nodes that know that Redis is down find a notice in the database within this time."""
NOTICED_S = 4.0
"""A frozen Redis counts as down within this time."""
ONCE_MORE_S = 2.5
"""A duplicate would arrive within this time."""


async def down(redis: RedisServer) -> float:
    await redis.kill()
    return SOON_S


async def stalled(redis: RedisServer) -> float:
    redis.signal(signal.SIGSTOP)
    return SOON_S + NOTICED_S


async def back(redis: RedisServer, nodes: Spread) -> None:
    assert redis.process is not None
    if redis.process.returncode is None:
        redis.signal(signal.SIGCONT)
    else:
        await redis.start()
    await nodes.joined(redis)
    await nodes.settled()


def marks(wire: Wire) -> list[tuple[str, Any]]:
    return [event for event in wire.heard if event[0] in ("message:read", "conversation:read")]


@pytest.mark.parametrize("fault", [down, stalled])
async def test_presence_changes_while_redis_is_down_reach_every_node_once(
    own_redis: RedisServer,
    own_nodes: Spread,
    everyone: People,
    fault: Any,
) -> None:
    alice, bob, carol, dave = everyone("alice", "bob", "carol", "dave")
    await alice.group(bob, carol)
    await alice.direct(bob)
    desks = [await Wire.connect(alice.at(own_nodes.servers[n])) for n in range(3)]
    stranger = await Wire.connect(dave.at(own_nodes.servers[0]))
    bobs = await Wire.connect(bob.at(own_nodes.servers[2]))
    for desk in desks:
        await desk.until(lambda desk=desk: heard_of(desk, bob) == ["online"])

    within = await fault(own_redis)
    carols = await Wire.connect(carol.at(own_nodes.servers[1]))
    for wire in (*desks, bobs):
        await wire.until(lambda wire=wire: heard_of(wire, carol) == ["online"], within)
    await bobs.close()
    for wire in (*desks, carols):
        await wire.until(
            lambda wire=wire: heard_of(wire, bob)[-1:] == ["offline"], GRACE_S + SOON_S
        )
    # They share two conversations, and catch-up runs many times: each notice is delivered once, and none to
    # a user who shares no conversation.
    await asyncio.sleep(ONCE_MORE_S)
    await back(own_redis, own_nodes)
    await asyncio.sleep(ONCE_MORE_S)
    for desk in desks:
        assert heard_of(desk, carol) == ["online"]
        assert heard_of(desk, bob) == ["online", "offline"]
        assert heard_of(desk, alice) == []
    assert heard_of(carols, carol) == []
    assert heard_of(stranger, bob) == heard_of(stranger, carol) == []
    told = [payload for payload in desks[0].told("user:offline") if payload["userId"] == bob.id]
    assert all(set(payload) == {"userId", "lastSeen", "timestamp"} for payload in told)

    await carols.close()
    for desk in desks:
        await desk.until(lambda desk=desk: heard_of(desk, carol) == ["online", "offline"], 5)
        await desk.close()
    await stranger.close()


@pytest.mark.parametrize("fault", [down, stalled])
async def test_read_marks_while_redis_is_down_reach_every_node_once(
    own_redis: RedisServer,
    own_nodes: Spread,
    everyone: People,
    fault: Any,
) -> None:
    alice, bob, carol = everyone("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    where = {"conversationId": talk["id"]}
    desk, phone, tablet = [
        await Wire.connect(person.at(own_nodes.servers[n]))
        for n, person in enumerate((alice, bob, carol))
    ]
    said = [await (await desk.say(talk, f"{n}")) for n in range(5)]
    ids = [answer["data"]["id"] for answer in said if answer]
    acts = [("message:read", await phone.do("message:read", {"messageId": ids[0]}))]
    for wire in (desk, phone, tablet):
        await wire.until(lambda wire=wire: marks(wire) == acts)

    within = await fault(own_redis)
    acts.append(("message:read", await phone.do("message:read", {"messageId": ids[2]})))
    upto = where | {"upToMessageId": ids[3]}
    acts.append(("conversation:read", await phone.do("conversation:read", upto)))
    assert acts[-1][1]["count"] == 2
    await phone.do("conversation:read", upto)  # moves nothing
    for wire in (desk, tablet):
        await wire.until(lambda wire=wire: len(marks(wire)) >= 3, within)
    acts.append(("conversation:read", await phone.do("conversation:read", where)))
    for wire in (desk, tablet):
        await wire.until(lambda wire=wire: len(marks(wire)) >= 4, SOON_S)
    await asyncio.sleep(ONCE_MORE_S)
    await back(own_redis, own_nodes)
    await asyncio.sleep(ONCE_MORE_S)
    for wire in (desk, phone, tablet):
        assert marks(wire) == acts
        await wire.close()


async def test_notices_that_a_frozen_node_missed_reach_its_clients_once(
    own_redis: RedisServer,
    own_nodes: Spread,
    everyone: People,
) -> None:
    alice, bob, carol, dave = everyone("alice", "bob", "carol", "dave")
    talk = await alice.group(bob, carol, dave)
    desk, phone, laptop = [
        await Wire.connect(person.at(own_nodes.servers[n]))
        for n, person in ((2, alice), (0, bob), (1, dave))
    ]
    answer = await (await desk.say(talk, "Read me"))
    assert answer is not None
    await phone.until(lambda: phone.told("message:new"))
    await desk.until(lambda: heard_of(desk, dave) == ["online"])

    own_nodes.servers[2].signal(signal.SIGSTOP)
    # The messages that Redis buffers for the node are lost, too.
    await own_redis.kill()
    await own_redis.start()
    read = await phone.do("message:read", {"messageId": answer["data"]["id"]})
    carols = await Wire.connect(carol.at(own_nodes.servers[1]))
    # Dave goes offline and online: to his contacts on the frozen node he has been online all the time.
    await laptop.close()
    await phone.until(lambda: heard_of(phone, dave)[-1:] == ["offline"], GRACE_S + SOON_S)
    laptop = await Wire.connect(dave.at(own_nodes.servers[1]))
    await phone.until(lambda: heard_of(phone, dave)[-2:] == ["offline", "online"], SOON_S)
    own_nodes.servers[2].signal(signal.SIGCONT)
    woken = time.monotonic()
    await desk.until(lambda: heard_of(desk, carol) == ["online"] and marks(desk), SOON_S)
    assert time.monotonic() - woken < SOON_S
    await own_nodes.joined(own_redis)
    await own_nodes.settled()
    await asyncio.sleep(ONCE_MORE_S)
    assert marks(desk) == marks(phone) == [("message:read", read)]
    assert heard_of(desk, carol) == ["online"]
    assert heard_of(desk, dave) == ["online"]
    for wire in (desk, phone, laptop, carols):
        await wire.close()


async def test_a_member_removed_while_redis_is_down_receives_no_notices(
    own_redis: RedisServer,
    own_nodes: Spread,
    everyone: People,
) -> None:
    alice, bob, carol, dave = everyone("alice", "bob", "carol", "dave")
    talk = await alice.group(bob, carol, dave)
    desk, phone, tablet = [
        await Wire.connect(person.at(own_nodes.servers[n]))
        for n, person in enumerate((alice, bob, carol))
    ]
    await (await desk.say(talk, "Before"))
    await tablet.until(lambda: tablet.told("message:new"))
    await own_redis.kill()
    path = f"/conversations/{talk['id']}/participants/{carol.id}"
    await alice.at(own_nodes.servers[0]).ask("DELETE", path)
    await phone.do("conversation:read", {"conversationId": talk["id"]})
    daves = await Wire.connect(dave.at(own_nodes.servers[1]))
    await desk.until(lambda: marks(desk) and heard_of(desk, dave), SOON_S)
    await tablet.until(lambda: tablet.told("conversation:removed"), SOON_S)
    await asyncio.sleep(ONCE_MORE_S)
    await back(own_redis, own_nodes)
    await tablet.caught_up()
    assert marks(tablet) == []
    assert heard_of(tablet, dave) == []
    for wire in (desk, phone, tablet, daves):
        await wire.close()


async def test_250_users_who_connect_while_redis_is_down_are_announced_once_each(
    own_redis: RedisServer,
    own_nodes: Spread,
    everyone: People,
) -> None:
    alice = everyone("alice")
    desk = await Wire.connect(alice.at(own_nodes.servers[0]))
    async with crowd(own_nodes.servers[1], 250) as many:
        await asyncio.gather(*[alice.direct(guest) for guest in many])
        await own_redis.kill()
        wires = await arrive(many)
        came = sorted(guest.id for guest in many)
        await desk.until(lambda: len(desk.told("user:online")) >= len(came), 15)
        await back(own_redis, own_nodes)
        await asyncio.sleep(ONCE_MORE_S)
        assert sorted(payload["userId"] for payload in desk.told("user:online")) == came
        await asyncio.gather(*[wire.close() for wire in wires], desk.close())
