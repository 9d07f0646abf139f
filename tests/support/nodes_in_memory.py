"""Nodes in the test's process with a simulated bus and log, so that a test controls the order of events
exactly. Everything else is as in the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import pytest_asyncio

from chatserver.realtime import Connection
from chatserver.realtime.cluster import Cluster
from chatserver.realtime.engine.packet import Packet
from chatserver.realtime.rooms.arrival import Arrival
from chatserver.realtime.rooms.update import RoomUpdate

from .raw import when

TALK = "talk"


class FakeSession:
    """The part of a session that rooms use."""

    def __init__(self) -> None:
        self.received: list[str] = []

    def emit(self, packet: Packet) -> None:
        self.received.append(packet.payload.decode())


class Unreadable(Exception):
    """The log is away."""


class InMemoryLog:
    """The log of one room."""

    unreadable = Unreadable

    def __init__(self) -> None:
        self.changes: list[RoomUpdate] = []
        self.readings = 0
        self.away = False
        self.ended = False
        self.before_answering: Callable[[], None] = lambda: None

    def commit(self, update: RoomUpdate) -> int:
        self.changes.append(update)
        return len(self.changes)

    async def positions(self, rooms: Iterable[str]) -> dict[str, int]:
        await asyncio.sleep(0)
        if self.away:
            raise Unreadable
        found = {} if self.ended else dict.fromkeys(rooms, len(self.changes))
        self.before_answering()
        return found

    async def after(self, room: str, offset: int, limit: int) -> list[tuple[int, RoomUpdate]]:
        self.readings += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unreadable
        return list(enumerate(self.changes, 1))[offset:][:limit]


class InMemoryBus:
    """The bus. While `held` is a list, messages wait until the test calls `let_pass`."""

    def __init__(self) -> None:
        self.nodes: list[Cluster] = []
        self.ends: list[BusOfNode] = []
        self.held: list[tuple[str, bytes]] | None = None

    def say(self, channel: str, message: bytes) -> int:
        subscribed = [end for end in self.ends if channel in end.channels]
        if self.held is not None:
            self.held.append((channel, message))
        else:
            for end in subscribed:
                end.node.receiver.receive(channel, message)
        return len(subscribed)

    def let_pass(self) -> None:
        held, self.held = self.held or [], None
        for channel, message in held:
            self.say(channel, message)


class BusOfNode:
    """The bus as one node sees it."""

    def __init__(self, bus: InMemoryBus) -> None:
        self.bus = bus
        self.up = True
        self.channels: set[str] = set()
        self.confirms = True
        self.waiting: list[asyncio.Future[bool]] = []
        self.node: Cluster

    def publish(
        self, channel: str, message: bytes, received: Callable[[int], None] | None = None
    ) -> None:
        if self.up:
            count = self.bus.say(channel, message)
            if received:
                received(count)

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


class Simulation:
    """Several nodes with a simulated bus and log."""

    def __init__(self) -> None:
        self.log = InMemoryLog()
        self.bus = InMemoryBus()
        self.looked = 0
        self.keeping: list[asyncio.Task[None]] = []

    def node(self, name: str) -> Cluster:
        node, end = Cluster(self.log, name * 16), BusOfNode(self.bus)
        end.node = node
        self.bus.nodes.append(node)
        self.bus.ends.append(end)
        node.connect(end)
        return node

    async def look(self, seconds: float) -> None:
        self.looked += 1

    async def _notices(self, seconds: float, caught_up_at: float) -> bool:
        """There are no notices."""
        return True

    async def keep_up(self, *nodes: Cluster) -> None:
        self.keeping += [
            asyncio.create_task(node.keep_up(self.look, self._notices)) for node in nodes
        ]
        await when(lambda: all(node.in_sync for node in nodes))

    async def close(self) -> None:
        for task in self.keeping:
            task.cancel()
        await asyncio.gather(*self.keeping, return_exceptions=True)
        for node in self.bus.nodes:
            await node.sequencer.close()


def enter(node: Cluster, user: str, rooms: list[str], arrival: Arrival) -> FakeSession:
    session = FakeSession()
    node.enter(Connection(cast(Any, session), f"sid of {user}", user), rooms, arrival)
    return session


async def come(node: Cluster, user: str, *rooms: str) -> FakeSession:
    arrival = node.arriving(user)
    await node.reachable(user)
    await node.prepare(rooms)
    return enter(node, user, list(rooms), arrival)


def said(text: str) -> RoomUpdate:
    update = RoomUpdate()
    update.emit("message:new", text)
    return update


def joins(*users: str) -> RoomUpdate:
    update = RoomUpdate()
    update.admit(users)
    for user in users:
        update.emit_to(user, "conversation:joined", user)
    return update


def goes(user: str) -> RoomUpdate:
    update = RoomUpdate()
    update.expel([user])
    update.emit_to(user, "conversation:removed", user)
    return update


def news(session: FakeSession) -> list[str]:
    return [packet.split('"')[3] for packet in session.received if "message:new" in packet]


@pytest_asyncio.fixture
async def simulation() -> AsyncIterator[Simulation]:
    simulation = Simulation()
    yield simulation
    await simulation.close()
