"""Nodes in this process, with the bus and the record between them: what happens at the worst moment can
be had to the millisecond. Everything else is as in the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import pytest_asyncio

from chatserver.realtime import Connection
from chatserver.realtime.cluster import Cluster
from chatserver.realtime.engine.packet import Packet
from chatserver.realtime.rooms import sequencer
from chatserver.realtime.rooms.rooms import Arrival
from chatserver.realtime.rooms.sequencer import Unreadable
from chatserver.realtime.rooms.update import RoomUpdate

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

    async def after(self, room: str, place: int) -> list[tuple[int, RoomUpdate]]:
        self.readings += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unreadable
        return list(enumerate(self.changes, 1))[place:][: sequencer.PAGE]


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
                one.node.hearing.hear(channel, message)
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
        one.look_aside = self._look_aside
        self.air.nodes.append(one)
        self.air.ends.append(end)
        one.connect(end)
        return one

    async def _look(self, seconds: float) -> None:
        self.looked += 1

    async def _look_aside(self, seconds: float, level_at: float) -> None:
        """All has been told."""

    async def keep_up(self, *nodes: Cluster) -> None:
        self.keeping += [asyncio.create_task(one.keep_up()) for one in nodes]
        await when(lambda: all(one.whole for one in nodes))

    async def close(self) -> None:
        for task in self.keeping:
            task.cancel()
        await asyncio.gather(*self.keeping, return_exceptions=True)
        for one in self.air.nodes:
            await one.sequencer.close()


def enter(node: Cluster, user: str, rooms: list[str], arrival: Arrival) -> Ear:
    ear = Ear()
    node.enter(Connection(cast(Any, ear), f"sid of {user}", user), rooms, arrival)
    return ear


async def come(node: Cluster, user: str, *rooms: str) -> Ear:
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


def news(ear: Ear) -> list[str]:
    return [one.split('"')[3] for one in ear.heard if "message:new" in one]


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    one = Place()
    yield one
    await one.close()
