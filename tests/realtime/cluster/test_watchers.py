"""Sockets that watch users, on a node with a simulated bus: who receives what, when memberships end at any moment."""

from __future__ import annotations

from itertools import count
from typing import Any, cast
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from chatserver.chat.membership import Members
from chatserver.chat.presence import subscriptions
from chatserver.mongo import DatabaseUnavailable
from chatserver.mongo.failures import deadline
from chatserver.realtime.cluster import Cluster
from chatserver.realtime.engine.packet import event
from chatserver.realtime.rooms import watchers as module
from tests.support.nodes_in_memory import (
    TALK,
    FakeSession,
    Simulation,
    come,
    enter,
    goes,
    joins,
)
from tests.support.raw import when

SHARED = {"bob": TALK}


class Scene:
    """A node where Alice watches Bob. They share TALK, in which the event about Bob is not announced."""

    def __init__(self, node: Cluster, alice: FakeSession) -> None:
        self.node = node
        self.watchers = node.watchers
        self.alice = alice
        (self.socket,) = node._sockets["alice"]
        self.unsure: list[str] = []
        self.watchers.on_unsure = self.unsure.append
        self._numbers = count(1)

    @classmethod
    async def begin(cls, simulation: Simulation, *, in_sync: bool = True) -> Scene:
        node = simulation.node("a")
        scene = cls(node, await come(node, "alice", TALK))
        scene.watchers.add(scene.socket, ["bob"])
        scene.watchers.settle(scene.watchers.check("alice"), SHARED)
        if in_sync:
            await simulation.keep_up(node)
        return scene

    def turns(self, **more: Any) -> str:
        """Bob comes or goes. Returns the text of the event."""
        number = next(self._numbers)
        name = "user:online" if number % 2 else "user:offline"
        self.node.deliver_state((), name, number, user_id="bob", number=number, **more)
        return f"{number}]"

    @property
    def received(self) -> list[str]:
        return [packet.rpartition(",")[2] for packet in self.alice.received]

    def nothing_left(self) -> bool:
        watchers = self.watchers
        return not (
            watchers._of_user or watchers._of_socket or watchers._waiting or watchers._checks
        )


async def test_a_thousand_watchers_cost_one_encoding(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = simulation.node("a")
    sessions = [await come(node, f"user{n}", TALK) for n in range(1000)]
    sockets = [socket for n in range(1000) for socket in node._sockets[f"user{n}"]]
    for socket in sockets:
        node.watchers.add(socket, ["bob"])
    node.watchers.settle(node.watchers.check("bob"), {socket.user_id: TALK for socket in sockets})
    await simulation.keep_up(node)
    encoded: list[str] = []

    def counting(name: str, payload: Any, *, volatile: bool = False) -> Any:
        encoded.append(name)
        return event(name, payload, volatile=volatile)

    monkeypatch.setattr(module, "event", counting)
    # A quarter of them is also in a room in which it is announced.
    for socket in sockets[:250]:
        node.join(socket, "small")
    node.emit_to_contacts(["small"], "user:online", 1, user_id="bob", number=1)
    assert encoded == ["user:online"]
    assert [session.received for session in sessions] == [['2["user:online",1]']] * 1000
    node.emit_to_contacts([], "user:online", 1, user_id="carol", number=1)
    assert encoded == ["user:online"], "nobody watches Carol"


async def test_a_node_that_is_not_in_sync_sends_nothing_without_a_check(
    simulation: Simulation,
) -> None:
    scene = await Scene.begin(simulation, in_sync=False)
    scene.turns()
    second = scene.turns()
    assert scene.received == []
    assert scene.unsure == ["bob", "bob"]
    scene.watchers.settle(scene.watchers.check("bob"), {"alice": TALK})
    assert scene.received == [second], "only the last event"
    scene.turns()
    # On another node, Bob was removed.
    scene.watchers.settle(scene.watchers.check("bob"), {})
    assert scene.received == [second]
    assert scene.nothing_left()


async def test_catch_up_vouches_with_the_rooms_that_have_caught_up(simulation: Simulation) -> None:
    scene = await Scene.begin(simulation, in_sync=False)
    first = scene.turns(trusted={TALK})
    assert scene.received == [first]
    scene.turns(trusted={"another"})
    assert scene.received == [first]
    assert scene.unsure == ["bob"]


@pytest.mark.parametrize("leaver", ["alice", "bob"])
async def test_the_end_of_a_membership_ends_the_pair(simulation: Simulation, leaver: str) -> None:
    scene = await Scene.begin(simulation)
    first = scene.turns()
    scene.node.tell(TALK, 1, goes(leaver))
    assert scene.unsure == [leaver]
    scene.turns()
    scene.watchers.settle(scene.watchers.check(leaver), {})
    scene.turns()
    assert [text for text in scene.received if text[0].isdigit()] == [first]
    assert scene.nothing_left()


@pytest.mark.parametrize("leaver", ["alice", "bob"])
async def test_a_user_who_leaves_during_a_check_is_checked_again(
    simulation: Simulation, leaver: str
) -> None:
    scene = await Scene.begin(simulation, in_sync=False)
    scene.turns()
    check = scene.watchers.check("bob")
    scene.node.tell(TALK, 1, goes(leaver))
    scene.unsure.clear()
    # A read from before that still has both in the room.
    scene.watchers.settle(check, {"alice": TALK})
    assert "1]" not in scene.received
    assert scene.unsure == ["bob"]
    scene.watchers.settle(scene.watchers.check("bob"), {})
    assert "1]" not in scene.received
    assert scene.nothing_left()


async def test_a_user_who_joins_during_a_check_is_checked_again(simulation: Simulation) -> None:
    scene = await Scene.begin(simulation)
    check = scene.watchers.check("alice", ["bob"])
    scene.node.tell(TALK, 1, joins("bob"))
    # It was read before that.
    scene.watchers.settle(check, {})
    assert scene.unsure == ["alice"]
    assert scene.turns() in scene.received, "the subscription goes on"


async def test_an_event_during_a_check_waits_for_the_next_one(simulation: Simulation) -> None:
    scene = await Scene.begin(simulation, in_sync=False)
    check = scene.watchers.check("alice", ["bob"])
    event = scene.turns()
    scene.watchers.settle(check, SHARED)
    assert scene.received == [], "Bob may have been removed between the read and his event"
    assert scene.unsure == ["bob", "alice"]
    scene.watchers.settle(scene.watchers.check("alice"), SHARED)
    assert scene.received == [event]


async def test_a_room_that_the_node_does_not_follow_vouches_for_one_event(
    simulation: Simulation,
) -> None:
    scene = await Scene.begin(simulation)
    scene.watchers.remove(scene.socket, ["bob"])
    scene.watchers.add(scene.socket, ["bob"])
    for _ in range(2):
        event = scene.turns()
        assert event not in scene.received
        scene.watchers.settle(scene.watchers.check("bob"), {"alice": "elsewhere"})
        assert scene.received[-1] == event


async def test_a_second_socket_that_shows_the_end_of_a_membership_first(
    simulation: Simulation,
) -> None:
    scene = await Scene.begin(simulation)
    arrival = scene.node.arriving("alice")
    enter(scene.node, "alice", [], arrival)
    scene.turns()
    assert scene.received == []
    assert scene.unsure == ["alice", "bob"]


async def test_a_socket_that_disconnects_leaves_nothing(simulation: Simulation) -> None:
    scene = await Scene.begin(simulation, in_sync=False)
    scene.turns()
    check = scene.watchers.check("bob")
    scene.node.leave(scene.socket)
    scene.watchers.settle(check, {"alice": TALK})
    assert scene.received == []
    assert scene.nothing_left()


async def test_a_watcher_learns_a_state_that_the_contacts_know(simulation: Simulation) -> None:
    """The node missed that Bob came. A socket that asked the database meanwhile has seen him online."""
    scene = await Scene.begin(simulation)
    scene.node.tell(TALK, 1, joins("carol"))
    carol = await come(scene.node, "carol", TALK)
    offline = ([TALK], "user:offline")
    scene.node.deliver_state(*offline, 1, user_id="bob", number=1)
    scene.node.deliver_state(*offline, 3, user_id="bob", number=3)
    scene.node.deliver_state(*offline, 3, user_id="bob", number=3)
    assert scene.received[-2:] == ["1]", "3]"]
    assert [packet for packet in carol.received if "user:" in packet] == ['2["user:offline",1]']


async def test_an_event_waits_until_the_database_answers(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_S", 0.01)
    scene = await Scene.begin(simulation, in_sync=False)
    answers: list[Any] = [DatabaseUnavailable(), DatabaseUnavailable(), {"alice": TALK}]
    members = Mock(Members, **{"acquainted.side_effect": answers})
    mongo = cast(Any, Mock(deadline=lambda: deadline(1.0)))
    running = subscriptions.PresenceSubscriptions(mongo, members, cast(Any, None), scene.watchers)
    with capture_logs():
        event = scene.turns()
        await when(lambda: scene.received == [event])
    assert [call.args for call in members.acquainted.call_args_list] == [("bob", ["alice"])] * 3
    await running.close()
