"""Users enter and leave rooms across nodes at the worst moment."""

from __future__ import annotations

import asyncio

import pytest

from chatserver.realtime.bus import subscriptions
from chatserver.realtime.cluster import cluster
from chatserver.realtime.expiry_queue import ExpiryQueue
from chatserver.realtime.rooms import sequencer
from chatserver.realtime.rooms.update import RoomUpdate
from tests.support.nodes_in_memory import TALK, Simulation, come, enter, goes, joins, news, said
from tests.support.raw import when


async def test_a_connecting_user_whom_this_node_adds_receives_the_room(
    simulation: Simulation,
) -> None:
    node = simulation.node("a")
    arrival = node.arriving("bob")
    node.tell(TALK, simulation.log.commit(joins("bob")), simulation.log.changes[-1])
    bob = enter(node, "bob", [], arrival)
    node.tell(TALK, simulation.log.commit(said("hi")), simulation.log.changes[-1])
    assert news(bob) == ["hi"]


async def test_a_connecting_user_whom_another_node_adds_receives_the_room(
    simulation: Simulation,
) -> None:
    here, there = simulation.node("a"), simulation.node("b")
    arrival = here.arriving("bob")
    there.tell(TALK, simulation.log.commit(joins("bob")), simulation.log.changes[-1])
    bob = enter(here, "bob", [], arrival)
    there.tell(TALK, simulation.log.commit(said("hi")), simulation.log.changes[-1])
    assert news(bob) == ["hi"]


async def test_a_removed_user_who_connects_again_leaves_the_room_on_all_devices(
    simulation: Simulation,
) -> None:
    """The second device reads the removal from the database before this node receives it."""
    here, there = simulation.node("a"), simulation.node("b")
    simulation.log.commit(joins("bob", "carol"))
    first, carol = await come(here, "bob", TALK), await come(here, "carol", TALK)
    simulation.bus.held = []
    there.tell(TALK, simulation.log.commit(goes("bob")), simulation.log.changes[-1])
    await come(here, "bob")
    simulation.bus.let_pass()
    there.tell(TALK, simulation.log.commit(said("among us")), simulation.log.changes[-1])
    assert news(carol) == ["among us"]
    assert news(first) == []


async def test_a_room_is_kept_for_a_user_who_returns_just_before_it_expires(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "KEEP_FOR_S", 0.3)
    here, there = simulation.node("a"), simulation.node("b")
    simulation.log.commit(joins("bob"))
    session = await come(here, "bob", TALK)
    ((connection,),) = [tuple(sockets) for sockets in here._sockets.values()]
    here.leave(connection)
    await asyncio.sleep(0.25)
    arrival = here.arriving("bob")
    await here.prepare([TALK])
    await asyncio.sleep(0.2)
    again = enter(here, "bob", [TALK], arrival)
    there.tell(TALK, simulation.log.commit(said("hi")), simulation.log.changes[-1])
    assert (news(session), news(again)) == ([], ["hi"])


async def test_channels_that_are_no_longer_wanted_leave_nothing_behind(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "KEEP_FOR_S", 0.1)
    here, there = simulation.node("a"), simulation.node("b")
    rooms = [f"room{n}" for n in range(5000)]
    await come(here, "bob", *rooms)
    ((connection,),) = [tuple(sockets) for sockets in here._sockets.values()]
    here.leave(connection)
    # A request to a node that waits for an update that never arrives.
    simulation.log.changes = []
    update = goes("zoe")
    there._confirmations.move("room7", 9, update.encode())
    await when(lambda: simulation.bus.ends[0].channels == {"all", "n:" + "a" * 16})
    assert here.sequencer.rooms() == []
    assert (len(here._room_channels), len(here._user_channels)) == (0, 0)
    assert (here._confirmations._waiting, here._arrivals) == ({}, {})


async def test_expiry_is_counted_from_the_last_use() -> None:
    over: list[str] = []
    expiry = ExpiryQueue(0.6, over.append)
    expiry.keep("a")
    expiry.keep("b")
    await asyncio.sleep(0.4)
    expiry.keep("a")
    await asyncio.sleep(0.35)
    assert over == ["b"]
    await when(lambda: over == ["b", "a"])


async def test_a_room_deleted_while_a_user_connects_is_not_replayed(
    simulation: Simulation,
) -> None:
    here, there = simulation.node("a"), simulation.node("b")
    simulation.log.commit(joins("bob"))
    for n in range(3):
        simulation.log.commit(said(f"{n}"))
    arrival = here.arriving("bob")
    end = RoomUpdate()
    end.dissolve("conversation:removed", {})
    simulation.log.commit(end)
    simulation.log.ended = True
    simulation.log.before_answering = lambda: there.tell(TALK, 5, end)
    await here.prepare([TALK])
    bob = enter(here, "bob", [TALK], arrival)
    await asyncio.sleep(2 * sequencer.REORDER_WAIT_S)
    assert bob.received == []
    assert not here.hosts("bob", TALK)


@pytest.mark.parametrize("who", ["carol", "bob"])
async def test_a_user_who_was_added_before_the_room_started_here_enters(
    simulation: Simulation, who: str
) -> None:
    """The room starts for carol, or for another device of bob, after the update that adds bob, and the node receives
    that update later."""
    here, there = simulation.node("a"), simulation.node("b")
    bob = await come(here, "bob")
    simulation.bus.held = []
    there.tell(TALK, simulation.log.commit(joins("bob", "carol")), simulation.log.changes[-1])
    await come(here, who, TALK)
    simulation.bus.let_pass()
    there.tell(TALK, simulation.log.commit(said("hi")), simulation.log.changes[-1])
    assert news(bob) == ["hi"]


@pytest.mark.parametrize("who", ["carol", "bob"])
async def test_catch_up_finds_a_user_who_was_added_before_the_room_started_here(
    simulation: Simulation, who: str
) -> None:
    """When the node receives the update that adds bob, the room has gone on."""
    here, there = simulation.node("a"), simulation.node("b")
    await come(here, "bob")
    await simulation.keep_up(here)
    simulation.bus.held = []
    there.tell(TALK, simulation.log.commit(joins("bob", "carol")), simulation.log.changes[-1])
    there.tell(TALK, simulation.log.commit(said("hi")), simulation.log.changes[-1])
    await come(here, who, TALK)
    looked = simulation.looked
    simulation.bus.let_pass()
    assert here.lacks("bob", TALK)
    await when(lambda: simulation.looked > looked)


async def test_an_arrival_is_incomplete_if_something_was_missed(
    simulation: Simulation,
) -> None:
    node = simulation.node("a")
    await simulation.keep_up(node)
    arrival = node.arriving("bob")
    assert arrival.complete
    node.lost()
    assert not arrival.complete
    assert not node.arriving("carol").complete


async def test_a_removal_is_confirmed_when_every_node_has_applied_it(
    simulation: Simulation,
) -> None:
    here, there = simulation.node("a"), simulation.node("b")
    simulation.log.commit(joins("alice", "bob"))
    await come(here, "bob", TALK)
    await come(there, "alice", TALK)
    simulation.log.away = True  # so that the gap stays
    simulation.log.commit(said("not heard"))
    there.sequencer.offer(TALK, 2, said("not heard"))
    there.tell(TALK, simulation.log.commit(goes("bob")), simulation.log.changes[-1])
    asked = asyncio.ensure_future(there.confirmed(TALK, 3))
    await asyncio.sleep(0.1)
    assert here.hosts("bob", TALK)
    assert not asked.done()
    simulation.log.away = False
    await asyncio.wait_for(asked, 0.9)
    assert not here.hosts("bob", TALK)


async def test_a_room_that_starts_after_a_removal_confirms_it_immediately(
    simulation: Simulation,
) -> None:
    here, there = simulation.node("a"), simulation.node("b")
    simulation.log.commit(joins("alice", "bob"))
    await come(there, "alice", TALK)
    arrival = here.arriving("bob")
    asked: list[asyncio.Future[None]] = []

    def remove() -> None:
        there.tell(TALK, simulation.log.commit(goes("bob")), simulation.log.changes[-1])
        asked.append(asyncio.ensure_future(there.confirmed(TALK, 2)))
        simulation.log.before_answering = lambda: None

    simulation.log.before_answering = remove
    await here.prepare([TALK])
    bob = enter(here, "bob", [TALK], arrival)
    await asyncio.wait_for(asked[0], 0.9)
    assert not here.hosts("bob", TALK)
    assert bob.received == []


async def test_a_room_whose_channel_is_confirmed_late_reads_the_log(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "CONFIRM_S", 0.01)
    here = simulation.node("a")
    simulation.log.commit(joins("bob"))
    end = simulation.bus.ends[0]
    end.confirms = False

    def too_early() -> None:
        simulation.log.commit(said("said before it was heard"))
        for confirmation in end.waiting:
            if not confirmation.done():
                confirmation.set_result(True)

    simulation.log.before_answering = too_early
    bob = await come(here, "bob", TALK)
    await when(lambda: news(bob) == ["said before it was heard"])


async def test_a_user_channel_that_is_confirmed_late_causes_a_catch_up(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "CONFIRM_S", 0.01)
    here = simulation.node("a")
    await simulation.keep_up(here)
    end = simulation.bus.ends[0]
    end.confirms = False
    await come(here, "bob")
    looked = simulation.looked
    for confirmation in end.waiting:
        confirmation.set_result(True)
    await when(lambda: simulation.looked > looked)


async def test_a_departure_is_the_end_of_the_last_socket_of_a_user(simulation: Simulation) -> None:
    node = simulation.node("a")
    gone: list[str] = []
    node.on_departure(gone.append)
    await come(node, "bob", TALK)
    (first,) = node._sockets["bob"]
    await come(node, "bob", TALK)
    with node.watching(["bob"]):
        node.leave(first)
    assert gone == []
    arrival = node.arriving("bob")
    (second,) = node._sockets["bob"]
    node.leave(second)
    assert gone == [], "another socket connects"
    node.abort_arrival("bob", arrival)
    assert gone == ["bob"]
    node.leave(second)
    assert gone == ["bob"]
