"""The servers that all cells share, and the people of one cell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from redis.asyncio import Redis

from ..database_proxy import DatabaseProxy
from ..exposition import samples, scrape
from ..patience import slowness
from ..people import People, Person, Refused
from ..people_on_nodes import Spread
from ..raw import Wire
from ..receiver import Receiver
from ..redises import RedisServer
from ..servers import MongoServer, chat_server
from .view import View, read_by

T = TypeVar("T")

TEMPORARY = ("UNAVAILABLE", "INTERNAL")
"""The only errors with which a failure of the database may be answered. Every other one is final for a client."""

UNSURE = (
    "chat_log_conversations_unsure",
    "chat_memory_entries writes of unknown outcome",
)
"""Metrics that are 0 when no write is in doubt."""


@dataclass
class Stage:
    """Two nodes with a Redis. The actor's node reaches the database through a proxy; the other one reaches it
    directly, and delivers no webhooks."""

    mongo: MongoServer
    proxy: DatabaseProxy
    nodes: Spread
    session: aiohttp.ClientSession
    receiver: Receiver
    timeout_s: float
    """The nodes answer within this time."""

    async def sure(self) -> None:
        """Waits until no node has a write of unknown outcome."""
        for node in self.nodes.servers:
            while True:
                now = samples(await scrape(node))
                if not any(now[name] for name in UNSURE):
                    break
                await asyncio.sleep(0.1)

    async def scene(self) -> Scene:
        """Alice acts. Alice, Bob, Carol and Eve are in a group; Dave is not. Everybody but Eve listens, on both nodes."""
        here, there = self.nodes.servers
        everyone = People(here, self.session)
        people = everyone("alice", "bob", "carol", "dave", "eve")
        alice, bob, carol, dave, eve = people
        places = ((alice, here), (alice, there), (bob, here), (carol, there), (dave, there))
        wires = await asyncio.gather(
            *[patiently(partial(connect, person.at(node))) for person, node in places]
        )
        group = await patiently(lambda: alice.group(bob, carol, eve, name="Old"))
        path = f"/conversations/{group['id']}"

        def say(person: Person) -> Awaitable[Any]:
            body = {"content": "Hello", "clientMessageId": "first"}
            return patiently(lambda: person.ask("POST", f"{path}/messages", body))

        theirs = await say(bob)
        # The last write is Alice's, so that her node knows the end of the log.
        mine = await say(alice)
        scene = Scene(self, people, wires[0], list(wires[1:]), path, mine, theirs)
        await scene.all_agree()
        return scene


@dataclass
class Scene:
    """The people of one cell, their group (`path`), a message of Alice and one of Bob in it."""

    stage: Stage
    people: list[Person]
    wire: Wire
    """Alice's socket with which she acts."""
    observers: list[Wire]
    path: str
    mine: dict[str, Any]
    theirs: dict[str, Any]
    visits: list[Wire] = field(default_factory=list)
    """Eve's sockets."""

    @property
    def group_id(self) -> str:
        return self.mine["conversationId"]

    @property
    def alice(self) -> Person:
        return self.people[0]

    @property
    def dave(self) -> Person:
        return self.people[3]

    @property
    def eve(self) -> Person:
        return self.people[4]

    async def emit(self, event: str, **payload: Any) -> Any:
        """Alice emits an event. Raises Refused, or ConnectionError if the socket ended."""
        if self.wire.gone.is_set():
            self.wire = await connect(self.alice)
        answer = await (await self.wire.ask(event, payload))
        if answer is None:
            raise ConnectionError("no answer")
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer["data"]

    async def master(self, method: str, path: str, body: Any = None) -> Any:
        """The Master Service sends a request to Alice's node. Raises Refused."""
        status, said = await People(self.alice.server, self.stage.session).master(
            method, path, body
        )
        if status >= 400:
            raise Refused(said["error"], status)
        return said

    async def read(self, reader: Person | None = None) -> Any:
        """Returns the group as Bob, or another reader, reads it on the other node; None if there is none."""
        return (await self._read(reader or self.people[1])).get(self.group_id)

    async def talk(self) -> None:
        """Bob and Dave send a message in each of their conversations, over the other node."""
        for person in (self.people[1], self.dave):
            there = person.at(self.stage.nodes.servers[1])
            for conversation_id in await self._read(person):
                path = f"/conversations/{conversation_id}/messages"
                body = {"content": "And now?", "clientMessageId": "now"}
                await patiently(partial(there.ask, "POST", path, body))

    async def names(self, reader: Person) -> list[str]:
        """Returns the names of a person's conversations."""
        return [conversation["name"] for conversation in (await self._read(reader)).values()]

    async def user(self) -> Any:
        """Returns Eve as the Master Service reads her."""
        return await patiently(lambda: self.master("GET", f"/users/{self.eve.id}"))

    async def until(self, done: Callable[[Scene], Awaitable[bool]]) -> None:
        await until(lambda: done(self))

    async def _read(self, reader: Person) -> Any:
        there = reader.at(self.stage.nodes.servers[1])
        return await patiently(lambda: read_by(there, self.eve.id))

    async def message(self, message_id: str) -> Any:
        group = await self.read()
        return next(message for message in group["messages"] if message["id"] == message_id)

    async def disagreements(self) -> list[str]:
        """Compares what each observer concludes from events with what the other node answers to requests."""
        found = []
        for observer in self.observers:
            person = observer.person
            try:
                view = View.of(observer, self.eve.id)
            except (AssertionError, KeyError) as error:
                found.append(f"{person.id} hears {error!r}")
                continue
            truth = await self._read(person)
            if not view.agrees(truth):
                found.append(f"{person.id} knows {view.seen}, but it is {truth}")
        return found

    async def webhooks_agree(self) -> bool:
        """The Master Service has got one event for each message, in order, and no other."""
        for conversation_id, known in (await self._read(self.people[1])).items():
            events = self.stage.receiver.by_key[conversation_id]
            told = [event["data"]["id"] for event in events if event["type"] == "message.created"]
            if told != [message["id"] for message in known["messages"]]:
                return False
        return True

    async def all_agree(self) -> None:
        """Waits until each observer knows what the server would answer."""
        await until(self._agree)

    async def _agree(self) -> bool:
        return not await self.disagreements()

    async def end(self) -> None:
        await asyncio.gather(
            *[wire.close() for wire in (self.wire, *self.observers, *self.visits)],
            return_exceptions=True,
        )


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    while not await done():  # noqa: ASYNC110  a request
        await asyncio.sleep(0.1)


async def patiently(request: Callable[[], Awaitable[T]]) -> T:
    """Repeats a request while the server is unavailable: the database may have failed a moment ago."""
    while True:
        try:
            return await request()
        except Refused as refusal:
            if refusal.code not in TEMPORARY:
                raise
            await asyncio.sleep(0.1)


async def connect(person: Person) -> Wire:
    """Returns a person's new socket when it is in its rooms. Raises Refused, or ConnectionError if it ended."""
    wire = await Wire.open(person)
    try:
        await wire.introduce()
        await wire.until(lambda: "connected" in wire.names or wire.gone.is_set() or _refusal(wire))
        if refusal := _refusal(wire):
            raise Refused(json.loads(refusal[2:])["data"])
        if wire.gone.is_set():
            raise ConnectionError("the socket ended")
    except BaseException:  # cancelled, too: nobody else would close the socket
        abort(wire)
        raise
    return wire


def _refusal(wire: Wire) -> str | None:
    return next((frame for frame in wire.frames if frame.startswith("44")), None)


def abort(wire: Wire) -> None:
    """Cuts the connection, without a word."""
    response = wire.websocket._response
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        mongo = MongoServer(folder / "mongo")
        await asyncio.to_thread(mongo.start)
        stack.push_async_callback(asyncio.to_thread, mongo.kill)
        # As a database whose administrator has changed nothing.
        mongo.set(transactionLifetimeLimitSeconds=60)
        redis = RedisServer(folder / "redis")
        await redis.start()
        stack.push_async_callback(redis.stop)
        proxy = await stack.enter_async_context(DatabaseProxy(mongo.url))
        receiver = await stack.enter_async_context(Receiver())
        timeout_s = min(1.5 * slowness(), 4.0)
        settings = {
            "REDIS_URL": redis.url,
            "REQUEST_TIMEOUT_S": f"{timeout_s:.1f}",
            "WEBHOOK_URL": receiver.url,
            "WEBHOOK_RETRY_FIRST_S": "0.1",
            "WEBHOOK_RETRY_MAX_S": "0.5",
        }
        servers = []
        for url, relay in ((proxy.url, "on"), (mongo.url, "off")):
            log = folder / f"log-relay-{relay}"
            node = chat_server(url, "faults", log, **settings, WEBHOOK_RELAY=relay)
            servers.append(await stack.enter_async_context(node))
            servers[-1].may_log_errors = True
        client = await stack.enter_async_context(Redis.from_url(redis.url))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        nodes = Spread(servers, client, "faults", session)
        await nodes.joined(redis)
        yield Stage(mongo, proxy, nodes, session, receiver, timeout_s)
