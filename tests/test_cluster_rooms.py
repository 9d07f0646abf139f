"""Rooms over nodes, to the millisecond: what happens at the worst moment. The nodes are in this process,
and so are the bus between them and the record; everything else is as in the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from chatserver.realtime import Connection, cluster, keeping_up, order
from chatserver.realtime.cluster import Cluster
from chatserver.realtime.linger import Linger
from chatserver.realtime.order import Unreadable
from chatserver.realtime.packet import Packet
from chatserver.realtime.rooms import Arrival
from chatserver.realtime.steps import Steps

from .raw import when

TALK = "talk"


class Ear:
    """A session, as far as rooms use one."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def emit(self, packet: Packet) -> None:
        self.heard.append(packet.payload.decode())


class Table:
    """What is on record, of one room."""

    def __init__(self) -> None:
        self.changes: list[Steps] = []
        self.readings = 0
        self.away = False
        self.ended = False
        self.before_answering: Callable[[], None] = lambda: None

    def commit(self, steps: Steps) -> int:
        self.changes.append(steps)
        return len(self.changes)

    async def positions(self, rooms: Iterable[str]) -> dict[str, int]:
        await asyncio.sleep(0)
        if self.away:
            raise Unreadable
        found = {} if self.ended else dict.fromkeys(rooms, len(self.changes))
        self.before_answering()
        return found

    async def after(self, room: str, place: int) -> list[tuple[int, Steps]]:
        self.readings += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unreadable
        return list(enumerate(self.changes, 1))[place:][: order.PAGE]


class Air:
    """The bus: what is said is heard by the others when the test lets it pass."""

    def __init__(self) -> None:
        self.nodes: list[Cluster] = []
        self.ends: list[End] = []
        self.held: list[tuple[str, bytes]] | None = None

    def say(self, channel: str, message: bytes) -> int:
        hearing = [one for one in self.ends if channel in one.channels]
        if self.held is not None:
            self.held.append((channel, message))
        else:
            for one in hearing:
                one.node.hear_node(channel, message)
        return len(hearing)

    def let_pass(self) -> None:
        held, self.held = self.held or [], None
        for one in held:
            self.say(*one)


class End:
    def __init__(self, air: Air) -> None:
        self.air = air
        self.up = True
        self.channels: set[str] = set()
        self.confirms = True
        self.waiting: list[asyncio.Future[bool]] = []
        self.node: Cluster

    def publish(
        self, channel: str, message: bytes, heard: Callable[[int], None] | None = None
    ) -> None:
        if self.up:
            count = self.air.say(channel, message)
            if heard:
                heard(count)

    def subscribe(self, channel: str) -> asyncio.Future[bool]:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.channels.add(channel)
        if self.confirms:
            done.set_result(self.up)
        else:
            self.waiting.append(done)
        return done

    def unsubscribe(self, channel: str) -> None:
        self.channels.discard(channel)


class Place:
    """Two nodes, N1 and N2, with a bus and a record between them."""

    def __init__(self) -> None:
        self.table = Table()
        self.air = Air()
        self.looked = 0
        self.keeping: list[asyncio.Task[None]] = []

    def node(self, name: str) -> Cluster:
        one, end = Cluster(self.table, name * 16), End(self.air)
        end.node = one
        one.elsewhere = lambda room, place, seq: None
        one.look_again = self._look
        self.air.nodes.append(one)
        self.air.ends.append(end)
        one.connect(end)
        return one

    async def _look(self) -> None:
        self.looked += 1

    async def keep_up(self, *nodes: Cluster) -> None:
        self.keeping += [asyncio.create_task(one.keep_up()) for one in nodes]
        await when(lambda: all(one.whole for one in nodes))

    async def close(self) -> None:
        for task in self.keeping:
            task.cancel()
        await asyncio.gather(*self.keeping, return_exceptions=True)
        for one in self.air.nodes:
            await one.order.close()


def enter(node: Cluster, user: str, rooms: list[str], arrival: Arrival) -> Ear:
    ear = Ear()
    node.enter(Connection(cast(Any, ear), f"sid of {user}", user), rooms, arrival)
    return ear


async def come(node: Cluster, user: str, *rooms: str) -> Ear:
    arrival = node.arriving(user)
    await node.reachable(user)
    await node.prepare(rooms)
    return enter(node, user, list(rooms), arrival)


def said(text: str) -> Steps:
    steps = Steps()
    steps.emit("message:new", text)
    return steps


def joins(*users: str) -> Steps:
    steps = Steps()
    steps.admit(users)
    for user in users:
        steps.emit_to(user, "conversation:joined", user)
    return steps


def goes(user: str) -> Steps:
    steps = Steps()
    steps.expel([user])
    steps.emit_to(user, "conversation:removed", user)
    return steps


def news(ear: Ear) -> list[str]:
    return [one.split('"')[3] for one in ear.heard if "message:new" in one]


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    one = Place()
    yield one
    await one.close()


async def test_who_is_added_by_this_node_while_coming_in_hears_the_room(place: Place) -> None:
    node = place.node("a")
    arrival = node.arriving("bob")
    node.tell(TALK, place.table.commit(joins("bob")), place.table.changes[-1])
    bob = enter(node, "bob", [], arrival)
    node.tell(TALK, place.table.commit(said("hi")), place.table.changes[-1])
    assert news(bob) == ["hi"]


async def test_who_is_added_by_another_node_while_coming_in_hears_the_room(place: Place) -> None:
    here, there = place.node("a"), place.node("b")
    arrival = here.arriving("bob")
    there.tell(TALK, place.table.commit(joins("bob")), place.table.changes[-1])
    bob = enter(here, "bob", [], arrival)
    there.tell(TALK, place.table.commit(said("hi")), place.table.changes[-1])
    assert news(bob) == ["hi"]


async def test_the_second_device_of_who_was_just_removed_shuts_the_first_one_out(
    place: Place,
) -> None:
    """The database says so to the second one before this node has heard of it."""
    here, there = place.node("a"), place.node("b")
    place.table.commit(joins("bob", "carol"))
    first, carol = await come(here, "bob", TALK), await come(here, "carol", TALK)
    place.air.held = []
    there.tell(TALK, place.table.commit(goes("bob")), place.table.changes[-1])
    await come(here, "bob")
    place.air.let_pass()
    there.tell(TALK, place.table.commit(said("among us")), place.table.changes[-1])
    assert news(carol) == ["among us"]
    assert news(first) == []


async def test_a_room_is_kept_for_who_comes_back_just_when_it_would_be_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LINGER_S", 0.3)
    here, there = place.node("a"), place.node("b")
    place.table.commit(joins("bob"))
    ear = await come(here, "bob", TALK)
    ((connection,),) = [tuple(one) for one in here._sockets.values()]
    here.leave(connection)
    await asyncio.sleep(0.25)
    arrival = here.arriving("bob")
    await here.prepare([TALK])
    await asyncio.sleep(0.2)
    again = enter(here, "bob", [TALK], arrival)
    there.tell(TALK, place.table.commit(said("hi")), place.table.changes[-1])
    assert (news(ear), news(again)) == ([], ["hi"])


async def test_what_is_not_wanted_any_more_leaves_nothing_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LINGER_S", 0.1)
    here, there = place.node("a"), place.node("b")
    rooms = [f"room{n}" for n in range(5000)]
    await come(here, "bob", *rooms)
    ((connection,),) = [tuple(one) for one in here._sockets.values()]
    here.leave(connection)
    # Asked of somebody who waits for a change that never comes.
    place.table.changes = []
    steps = goes("zoe")
    there._ask("r:room7", b"s", b"%08x%b" % (9, steps.encode()))
    await when(lambda: place.air.ends[0].channels == {"all", "n:" + "a" * 16})
    assert here.order.rooms() == []
    assert (here._listening, here._of_users, here._owed, here._arrivals) == ({}, {}, {}, {})


async def test_the_end_of_a_linger_is_counted_from_the_last_use() -> None:
    over: list[str] = []
    linger = Linger(0.6, over.append)
    linger.keep("a")
    linger.keep("b")
    await asyncio.sleep(0.4)
    linger.keep("a")
    await asyncio.sleep(0.35)
    assert over == ["b"]
    await when(lambda: over == ["b", "a"])


async def test_what_ended_while_somebody_came_in_is_not_told_from_its_beginning(
    place: Place,
) -> None:
    here, there = place.node("a"), place.node("b")
    place.table.commit(joins("bob"))
    for n in range(3):
        place.table.commit(said(f"{n}"))
    arrival = here.arriving("bob")
    end = Steps()
    end.dissolve("conversation:removed", {})
    place.table.commit(end)
    place.table.ended = True
    place.table.before_answering = lambda: there.tell(TALK, 5, end)
    await here.prepare([TALK])
    bob = enter(here, "bob", [TALK], arrival)
    await asyncio.sleep(2 * order.PATIENCE_S)
    assert bob.heard == []
    assert not here.hosts("bob", TALK)


async def test_who_was_brought_in_before_the_room_began_here_is_looked_for(place: Place) -> None:
    """The room begins for carol behind the change that brings bob in, which is heard after that."""
    here, there = place.node("a"), place.node("b")
    await come(here, "bob")
    await place.keep_up(here)
    looked = place.looked
    place.air.held = []
    there.tell(TALK, place.table.commit(joins("bob", "carol")), place.table.changes[-1])
    await come(here, "carol", TALK)
    place.air.let_pass()
    await when(lambda: place.looked > looked)


async def test_who_comes_in_while_something_is_missed_is_known_to_be_unsure(place: Place) -> None:
    node = place.node("a")
    await place.keep_up(node)
    arrival = node.arriving("bob")
    assert arrival.sure
    node.lost()
    assert not arrival.sure
    assert not node.arriving("carol").sure


async def test_a_removal_is_confirmed_when_it_was_performed_everywhere(place: Place) -> None:
    here, there = place.node("a"), place.node("b")
    place.table.commit(joins("alice", "bob"))
    await come(here, "bob", TALK)
    await come(there, "alice", TALK)
    place.table.away = True  # so that the gap stays
    place.table.commit(said("not heard"))
    there.order.offer(TALK, 2, said("not heard"))
    there.tell(TALK, place.table.commit(goes("bob")), place.table.changes[-1])
    asked = asyncio.ensure_future(there.confirmed(TALK, 3))
    await asyncio.sleep(0.1)
    assert here.hosts("bob", TALK)
    assert not asked.done()
    place.table.away = False
    await asyncio.wait_for(asked, 0.9)
    assert not here.hosts("bob", TALK)


async def test_a_removal_is_confirmed_at_once_by_a_room_that_begins_behind_it(place: Place) -> None:
    here, there = place.node("a"), place.node("b")
    place.table.commit(joins("alice", "bob"))
    await come(there, "alice", TALK)
    arrival = here.arriving("bob")
    asked: list[asyncio.Future[None]] = []

    def remove() -> None:
        there.tell(TALK, place.table.commit(goes("bob")), place.table.changes[-1])
        asked.append(there._moves[TALK, 2])
        place.table.before_answering = lambda: None

    place.table.before_answering = remove
    await here.prepare([TALK])
    bob = enter(here, "bob", [TALK], arrival)
    await asyncio.wait_for(asked[0], 0.9)
    assert not here.hosts("bob", TALK)
    assert bob.heard == []


async def test_a_channel_that_is_confirmed_late_is_looked_at_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONFIRM_S", 0.01)
    here = place.node("a")
    place.table.commit(joins("bob"))
    end = place.air.ends[0]
    end.confirms = False

    def too_early() -> None:
        place.table.commit(said("said before it was heard"))
        for one in end.waiting:
            if not one.done():
                one.set_result(True)

    place.table.before_answering = too_early
    bob = await come(here, "bob", TALK)
    await when(lambda: news(bob) == ["said before it was heard"])


async def test_one_bad_change_does_not_stop_its_room(place: Place) -> None:
    here, there = place.node("a"), place.node("b")
    place.table.commit(joins("bob"))
    bob = await come(here, "bob", TALK)

    def fail(data: Any) -> None:
        raise ValueError("bad")

    here.on("bad", fail)
    bad = Steps()
    bad.signal("bad", None)
    with capture_logs() as logs:
        for steps in (said("1"), bad, said("2")):
            there.tell(TALK, place.table.commit(steps), steps)
        assert news(bob) == ["1", "2"]
        # As well when they come in the wrong order, and when they are read.
        last = [place.table.commit(steps) for steps in (bad, said("3"), said("4"))]
        here.order.offer(TALK, last[1], said("3"))
        here.order.offer(TALK, last[0], bad)
        place.table.commit(bad)
        place.table.commit(said("5"))
        here.order.look(TALK)
        await when(lambda: news(bob) == ["1", "2", "3", "4", "5"])
    assert [one["event"] for one in logs] == ["a change could not be told"] * 3


async def test_what_is_not_understood_is_logged_now_and_then_and_the_node_goes_on(
    place: Place,
) -> None:
    here, there = place.node("a"), place.node("b")
    place.table.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    await place.keep_up(here)
    looked = place.looked
    with capture_logs() as logs:
        for n in range(300):
            for garbage in (b"", b"\xff" * n, b"m" + b"b" * 16 + b"x" * n, b"s" + b"b" * 16 + b"{"):
                here.hear_node(f"r:{TALK}", garbage)
                here.hear_node("all", garbage)
                here.hear_node("n:" + "a" * 16, garbage)
            await asyncio.sleep(0.001)
    assert len(logs) == 1
    assert place.looked - looked < 100, "it takes a fifth of the time at most"
    there.tell(TALK, place.table.commit(said("hi")), place.table.changes[-1])
    assert news(bob) == ["hi"]


async def test_what_was_told_of_and_never_was_is_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "PATIENCE_S", 0.002)
    here = place.node("a")
    place.table.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    with capture_logs() as logs:
        here.order.offer(TALK, 1000, said("nonsense"))
        await when(lambda: logs)
    readings = place.table.readings
    assert readings <= order.VAIN + 2
    await asyncio.sleep(0.1)
    assert place.table.readings == readings
    place.table.commit(said("hi"))
    here.order.offer(TALK, 2, said("hi"))
    assert news(bob) == ["hi"]


async def test_a_lively_room_is_not_read_forever_and_keeps_nothing(place: Place) -> None:
    here = place.node("a")
    place.table.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    place.table.commit(said("lost on the way"))
    # From now on each reading finds something new, which is heard as well.
    for n in range(400):
        steps = said(f"{n}")
        here.order.offer(TALK, place.table.commit(steps), steps)
        if n == 0:
            here.order.look(TALK)
        await asyncio.sleep(0)
    await when(lambda: len(news(bob)) == 401)
    assert news(bob)[1:] == [f"{n}" for n in range(400)]
    assert place.table.readings < 10
    assert here.order._sequences[TALK].early == {}


async def test_a_gap_that_closes_in_time_is_not_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "PATIENCE_S", 0.4)
    here = place.node("a")
    place.table.commit(joins("bob"))
    bob = await come(here, "bob", TALK)
    for n in range(0, 20, 2):
        here.order.offer(TALK, n + 3, said(f"{n + 1}"))
        here.order.behind(TALK, n + 1, n + 3)
        await asyncio.sleep(order.PATIENCE_S / 8)
        here.order.offer(TALK, n + 2, said(f"{n}"))
    await asyncio.sleep(1.5 * order.PATIENCE_S)
    assert news(bob) == [f"{n}" for n in range(20)]
    assert place.table.readings == 0


async def test_a_fault_in_reading_tells_nothing_twice(place: Place) -> None:
    here = place.node("a")
    place.table.commit(joins("bob"))
    place.table.commit(said("old"))
    bob = await come(here, "bob", TALK)

    async def broken(room: str, place: int) -> Any:
        raise KeyError("messageId")

    sound, place.table.after = place.table.after, broken  # type: ignore[method-assign]
    with capture_logs():
        here.order.look(TALK)
        await asyncio.sleep(0.02)
    place.table.after = sound  # type: ignore[method-assign]
    place.table.commit(said("new"))
    here.order.look(TALK)
    await when(lambda: news(bob) == ["new"])


async def test_a_fault_in_looking_does_not_end_the_looking(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping_up, "POLL_S", 0.02)
    node = place.node("a")
    faults = [ValueError("one"), ValueError("two")]

    async def look() -> None:
        if faults:
            raise faults.pop()

    node.look_again = look
    with capture_logs():
        await place.keep_up(node)
    assert faults == []


async def test_a_process_that_stood_still_does_not_go_by_what_it_remembers(
    place: Place,
) -> None:
    node = place.node("a")
    await place.keep_up(node)
    looked = place.looked
    node._keeping_up._beat_at -= 1.0  # as if it had been stopped for that long
    assert not node.whole
    with capture_logs() as logs:
        await when(lambda: place.looked > looked and node.whole)
    assert node.whole
    assert [one["event"] for one in logs] == ["the node stood still"]
