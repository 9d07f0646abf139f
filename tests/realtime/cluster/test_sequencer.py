"""The updates of a room are applied in order, each once, whatever goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from chatserver.chat.signals import Hidden
from chatserver.realtime.cluster import catch_up
from chatserver.realtime.rooms import sequencer
from chatserver.realtime.rooms.update import RoomUpdate
from tests.support.nodes_in_memory import TALK, Simulation, come, goes, joins, news, said
from tests.support.raw import when


async def test_an_update_that_fails_does_not_stop_its_room(simulation: Simulation) -> None:
    here, there = simulation.node("a"), simulation.node("b")
    simulation.log.commit(joins("bob"))
    bob = await come(here, "bob", TALK)

    def fail(hidden: Hidden) -> None:
        raise ValueError("bad")

    here.on(Hidden, fail)
    bad = RoomUpdate()
    bad.signal(Hidden("bob", TALK))
    with capture_logs() as logs:
        for update in (said("1"), bad, said("2")):
            there.tell(TALK, simulation.log.commit(update), update)
        assert news(bob) == ["1", "2"]
        # Also when they arrive in the wrong order, and when they are read from the log.
        last = [simulation.log.commit(update) for update in (bad, said("3"), said("4"))]
        here.sequencer.offer(TALK, last[1], said("3"))
        here.sequencer.offer(TALK, last[0], bad)
        simulation.log.commit(bad)
        simulation.log.commit(said("5"))
        here.sequencer.look(TALK)
        await when(lambda: news(bob) == ["1", "2", "3", "4", "5"])
    assert [line["event"] for line in logs] == ["a room update could not be applied"] * 3


async def test_invalid_messages_are_logged_rarely_and_the_node_continues(
    simulation: Simulation,
) -> None:
    here, there = simulation.node("a"), simulation.node("b")
    simulation.log.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    await simulation.keep_up(here)
    looked = simulation.looked
    with capture_logs() as logs:
        for n in range(300):
            for garbage in (b"", b"\xff" * n, b"m" + b"b" * 16 + b"x" * n, b"s" + b"b" * 16 + b"{"):
                here.receiver.receive(f"r:{TALK}", garbage)
                here.receiver.receive("all", garbage)
                here.receiver.receive("n:" + "a" * 16, garbage)
            await asyncio.sleep(0.001)
    assert len(logs) == 1
    assert simulation.looked - looked < 100, "catch-up takes a fifth of the time at most"
    there.tell(TALK, simulation.log.commit(said("hi")), simulation.log.changes[-1])
    assert news(bob) == ["hi"]


async def test_an_announcement_without_an_entry_is_discarded(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencer, "REORDER_WAIT_S", 0.002)
    here = simulation.node("a")
    simulation.log.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    with capture_logs() as logs:
        here.sequencer.offer(TALK, 1000, said("nonsense"))
        await when(lambda: logs)
    readings = simulation.log.readings
    assert readings <= sequencer.MAX_EMPTY_READS + 2
    await asyncio.sleep(0.1)
    assert simulation.log.readings == readings
    simulation.log.commit(said("hi"))
    here.sequencer.offer(TALK, 2, said("hi"))
    assert news(bob) == ["hi"]


async def test_reading_a_busy_room_ends_and_leaves_nothing_buffered(simulation: Simulation) -> None:
    here = simulation.node("a")
    simulation.log.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    simulation.log.commit(said("lost on the way"))
    # From now on each read finds something new, which also arrives as an announcement.
    for n in range(400):
        update = said(f"{n}")
        here.sequencer.offer(TALK, simulation.log.commit(update), update)
        if n == 0:
            here.sequencer.look(TALK)
        await asyncio.sleep(0)
    await when(lambda: len(news(bob)) == 401)
    assert news(bob)[1:] == [f"{n}" for n in range(400)]
    assert simulation.log.readings < 10
    assert here.sequencer._sequences[TALK].early == {}


async def test_the_reorder_buffer_is_bounded_and_what_it_did_not_take_is_read(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencer, "MAX_EARLY", 10)
    monkeypatch.setattr(sequencer, "RETRY_S", 0.02)
    here = simulation.node("a")
    simulation.log.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    simulation.log.away = True
    simulation.log.commit(said("lost on the way"))
    for n in range(100):
        update = said(f"{n}")
        here.sequencer.offer(TALK, simulation.log.commit(update), update)
    assert len(here.sequencer._sequences[TALK].early) == 10
    assert news(bob) == []
    simulation.log.away = False
    await when(lambda: len(news(bob)) == 101)
    assert news(bob) == ["lost on the way", *(f"{n}" for n in range(100))]
    assert here.sequencer._sequences[TALK].early == {}


async def test_a_gap_that_closes_in_time_is_not_read(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencer, "REORDER_WAIT_S", 0.4)
    here = simulation.node("a")
    simulation.log.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    for n in range(0, 20, 2):
        here.sequencer.offer(TALK, n + 3, said(f"{n + 1}"))
        here.sequencer.behind(TALK, n + 1, n + 3)
        await asyncio.sleep(sequencer.REORDER_WAIT_S / 8)
        here.sequencer.offer(TALK, n + 2, said(f"{n}"))
    await asyncio.sleep(1.5 * sequencer.REORDER_WAIT_S)
    assert news(bob) == [f"{n}" for n in range(20)]
    assert simulation.log.readings == 0


async def test_an_error_while_reading_delivers_nothing_twice(simulation: Simulation) -> None:
    here = simulation.node("a")
    simulation.log.commit(joins("bob"))
    simulation.log.commit(said("old"))
    bob = await come(here, "bob", TALK)

    async def broken(room: str, offset: int, limit: int) -> Any:
        raise KeyError("messageId")

    sound, simulation.log.after = simulation.log.after, broken  # type: ignore[method-assign]
    with capture_logs():
        here.sequencer.look(TALK)
        await asyncio.sleep(0.02)
    simulation.log.after = sound  # type: ignore[method-assign]
    simulation.log.commit(said("new"))
    here.sequencer.look(TALK)
    await when(lambda: news(bob) == ["new"])


async def test_an_error_in_a_catch_up_does_not_stop_later_ones(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "POLL_S", 0.02)
    node = simulation.node("a")
    faults = [ValueError("one"), ValueError("two")]

    async def look(seconds: float) -> None:
        if faults:
            raise faults.pop()

    simulation.look = look  # type: ignore[method-assign]
    with capture_logs():
        await simulation.keep_up(node)
    assert faults == []


async def test_the_pause_after_a_slow_catch_up_is_bounded(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "POLL_S", 0.02)
    monkeypatch.setattr(catch_up, "LONGEST_PAUSE_S", 0.1)
    node = simulation.node("a")
    ended: list[float] = []

    async def look(seconds: float) -> None:
        if not ended:
            await asyncio.sleep(0.5)  # as it waits for a database that is down
            ended.append(asyncio.get_running_loop().time())
            raise TimeoutError

    simulation.look = look  # type: ignore[method-assign]
    with capture_logs():
        await simulation.keep_up(node)
    assert asyncio.get_running_loop().time() - ended[0] < 1
    assert node.in_sync


async def test_a_node_is_not_in_sync_before_its_rooms_have_read_what_it_missed(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = simulation.node("a")
    await come(node, "alice", TALK)
    await come(node, "bob", TALK)
    await simulation.keep_up(node)
    after, read = simulation.log.after, asyncio.Event()

    async def slow(*asked: Any) -> Any:
        await asyncio.wait_for(read.wait(), 5)
        return await after(*asked)

    monkeypatch.setattr(simulation.log, "after", slow)
    simulation.log.commit(goes("bob"))
    looked = simulation.looked
    node.missed()
    await when(lambda: simulation.looked > looked + 1)
    assert node.hosts("bob", TALK)
    assert not node.in_sync
    read.set()
    await when(lambda: node.in_sync)
    assert not node.hosts("bob", TALK)


async def test_a_process_that_stalled_is_not_in_sync(
    simulation: Simulation,
) -> None:
    node = simulation.node("a")
    await simulation.keep_up(node)
    looked = simulation.looked
    node._catch_up._beat_at -= 1.0  # as if the process had stalled for that long
    assert not node.in_sync
    with capture_logs() as logs:
        await when(lambda: simulation.looked > looked and node.in_sync)
    assert node.in_sync
    assert [line["event"] for line in logs] == ["the node stalled"]
