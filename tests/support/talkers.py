"""Clients that talk and listen all the time, reconnect, and repeat unacknowledged sends, and checks of the
messages that they have in the end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import aiohttp

from .browsers import Browser, Lost
from .patience import PATIENCE_S
from .people import Person
from .raw import Answer, Wire, when
from .steady_talk import Talk


class Talker:
    """Talks and listens like a good client: reconnects, syncs the missed changes, and repeats unacknowledged
    sends in order."""

    pause_s = 0.002
    """The time between two sends."""

    def __init__(self, person: Person, talk: Talk, under_way: int) -> None:
        self.person = person
        self.under_way = under_way
        """Maximum number of unacknowledged sends; 0: only listens."""
        self.talk = talk
        self.said = 0
        self.open: set[int] = set()
        """Sends that are not acknowledged yet."""
        self.acked: dict[int, Any] = {}
        self.refused: list[Any] = []
        self.unexpected: Any = None
        """A refusal that ends the talk with an AssertionError."""
        self.known: dict[str, Any] = {}
        self.heard: list[str] = []
        self.codes: list[int | None] = []
        """The close codes of past connections."""
        self.wire: Wire
        self.wires: list[Wire] = []
        """All connections, in order."""
        self.stopping = False
        self._rev = 0
        """All changes up to this `rev` are known."""
        self._synced = False

    async def run(self) -> None:
        while True:
            wire = self.wire = await self._connect()
            self.wires.append(wire)
            self._synced = await self._sync(wire)
            for number in sorted(self.open):
                await self._say(wire, number)
            while not wire.gone.is_set():
                assert self.unexpected is None, self.unexpected
                if self.stopping and not self.open:
                    return
                if len(self.open) < self.under_way and not self.stopping:
                    self.open.add(self.said)
                    self.said += 1
                    await self._say(wire, self.said - 1)
                await asyncio.sleep(self.pause_s)
            self._learn()
            self.codes.append(await wire.ended())

    async def finish(self) -> list[Any]:
        """Returns all messages that it has in the end."""
        await self.wire.caught_up()
        self._learn()
        return sorted(self.known.values(), key=lambda message: message["seq"])

    def knows(self) -> int:
        """Returns the number of messages that it has so far."""
        return len(self.known.keys() | {message["id"] for message in self.wire.told("message:new")})

    def _learn(self) -> None:
        told = self.wire.told("message:new")
        self.heard += [message["id"] for message in told]
        self.known |= {message["id"]: message for message in told}
        if self._synced:
            self._rev = max([self._rev, *[message["rev"] for message in told]])

    async def _connect(self) -> Wire:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    wire = await Wire.open(self.person)
                    await wire.introduce()
                    await wire.until(partial(_is_in_or_gone, wire))
                except (aiohttp.ClientError, ConnectionError):
                    await asyncio.sleep(0.02)
                else:
                    if not wire.gone.is_set():
                        return wire

    async def _sync(self, wire: Wire) -> bool:
        while True:
            asked = {"conversationId": self.talk["id"], "afterRev": self._rev, "limit": 200}
            answer = await (await wire.ask("messages:sync", asked))
            if answer is None:
                return False
            assert answer["ok"], answer
            page = answer["data"]
            self.known |= {message["id"]: message for message in page["messages"]}
            self._rev = max([self._rev, *[message["rev"] for message in page["messages"]]])
            if not page["hasMore"]:
                return True

    async def _say(self, wire: Wire, number: int) -> None:
        answer = await wire.say(self.talk, f"{number}", f"{number}")
        answer.add_done_callback(partial(self._answered, number))

    def _answered(self, number: int, future: asyncio.Future[Answer]) -> None:
        answer = future.result()
        if answer is not None and answer["ok"]:
            self.open.discard(number)
            self.acked[number] = answer["data"]
        elif answer is not None:
            self.refused.append(answer)


class Patient(Talker):
    """Also repeats sends that fail with UNAVAILABLE, which two nodes that write to one conversation can cause."""

    def _answered(self, number: int, future: asyncio.Future[Answer]) -> None:
        super()._answered(number, future)
        answer = future.result()
        if answer is None or answer["ok"]:
            return
        if answer["error"]["code"] == "UNAVAILABLE":
            self._repeats = asyncio.create_task(self._repeat(number))
        else:
            self.unexpected = answer

    async def _repeat(self, number: int) -> None:
        await asyncio.sleep(self.pause_s)
        if number in self.open:  # a new connection may have repeated it
            await self._say(self.wire, number)


async def all_heard(talkers: list[Talker], log: list[Any]) -> None:
    """Checks that each connection received everything from its start to its end, in order, each once. With the
    syncs in between, every talker has the whole log."""
    for talker in talkers:
        await when(lambda talker=talker: talker.knows() == len(log))
        assert await talker.finish() == log
        for wire in talker.wires:
            assert_no_gap(wire.told("message:new"))


def assert_no_gap(told: list[Any]) -> None:
    seqs = [message["seq"] for message in told]
    first = seqs[0] if seqs else 0
    assert seqs == list(range(first, first + len(seqs)))


def _is_in_or_gone(wire: Wire) -> bool:
    return wire.gone.is_set() or "connected" in wire.names


async def talk_on(browser: Browser, talk: Talk, acked: list[Any], stop: asyncio.Event) -> None:
    """Sends one message after the other with the official client, and repeats those without a response."""
    while not stop.is_set():
        number = f"{len(acked)}"
        try:
            acked.append(await browser.say(talk, number, clientMessageId=number))
        except Lost:
            continue


async def everything(browser: Browser, talk: Talk) -> list[Any]:
    """Returns the messages of a browser that was cut off: those received before the first cut, and a sync."""
    await browser.caught_up()
    cut = next(n for n, (name, _) in enumerate(browser.heard) if name == "client:disconnect")
    before = [told for name, told in browser.heard[:cut] if name == "message:new"]
    known = {message["id"]: message for message in before}
    rev = before[-1]["rev"]
    while True:
        asked = {"conversationId": talk["id"], "afterRev": rev, "limit": 200}
        page = await browser.do("messages:sync", asked)
        known |= {message["id"]: message for message in page["messages"]}
        if not page["hasMore"]:
            return sorted(known.values(), key=lambda message: message["seq"])
        rev = page["messages"][-1]["rev"]
