"""People who keep talking while the database has faults, and checks of the result."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from . import documented
from .conversation_copy import CHANGES, Copy
from .patience import PATIENCE_S
from .people import People, Person
from .raw import Answer, Wire, history, rising

Talk = dict[str, Any]


async def ready(people: People) -> int:
    async with people.session.get(f"{people.server.rest}/ready") as answer:
        said = await answer.json()
        documented.answer("GET", "/ready", answer.status, answer.headers, said)
        return answer.status


async def becomes_ready(people: People, within: float = PATIENCE_S) -> None:
    async with asyncio.timeout(within):
        while True:
            if await ready(people) == 200:
                return
            await asyncio.sleep(0.05)


class Stream:
    """Sends messages all the time, with up to 50 in flight. The acknowledgements are kept."""

    def __init__(self, wire: Wire, talk: Talk) -> None:
        self.wire = wire
        self.talk = talk
        self.asked: list[asyncio.Future[Answer]] = []
        self.repeated: set[str] = set()
        """The messages that were refused first."""

    async def run(self, pause: float = 0.002) -> None:
        while True:
            if len(self.asked) < 50 or self.asked[-50].done():
                await self.say()
            await asyncio.sleep(pause)

    async def say(self) -> None:
        n = len(self.asked)
        self.asked.append(await self.wire.say(self.talk, f"{n}", f"{n}"))

    def acked(self) -> list[Any]:
        return [
            answer.result()["data"]
            for answer in self.asked
            if answer.done() and answer.result()["ok"]
        ]

    def failed(self) -> list[str]:
        done = [answer.result() for answer in self.asked if answer.done()]
        return [answer["error"]["code"] for answer in done if not answer["ok"]]

    async def repeat(self) -> None:
        """Repeats failed sends in order: the first until it is accepted, then the rest at once."""
        answers = await asyncio.gather(*self.asked)
        failed = [n for n, answer in enumerate(answers) if not answer or not answer["ok"]]
        self.repeated.update(map(str, failed))
        async with asyncio.timeout(PATIENCE_S):
            while failed:
                if (await self._again(failed[0]))["ok"]:
                    break
                await asyncio.sleep(0.05)
        again = await asyncio.gather(*[self._again(n) for n in failed[1:]])
        assert [answer for answer in again if not answer["ok"]] == []

    async def _again(self, n: int) -> Any:
        self.asked[n] = await self.wire.say(self.talk, f"{n}", f"{n}")
        return await self.asked[n]


async def repeat_refused(streams: list[Stream]) -> None:
    """Repeats what was refused, as clients do. A slow machine may refuse some, but not many: nothing waits for
    Redis or for another node."""
    for stream in streams:
        await stream.repeat()
    refused = sum(len(stream.repeated) for stream in streams)
    assert refused <= sum(len(stream.asked) for stream in streams) // 10


class Changer:
    """Edits a message and reacts to it again and again, one change after the other."""

    def __init__(self, wire: Wire, message: Any) -> None:
        self.wire = wire
        self.message = message
        self.texts: list[str] = []
        """The last acknowledged text, and those tried since."""

    async def run(self) -> None:
        target = {"messageId": self.message["id"]}
        for n in itertools.count():
            if self.wire.gone.is_set():
                return
            self.texts.append(f"edit {n}")
            answer = await (await self.wire.ask("message:edit", target | {"content": f"edit {n}"}))
            if answer and answer["ok"]:
                self.texts = [f"edit {n}"]
            change = "reaction:remove" if n % 2 else "reaction:add"
            await (await self.wire.ask(change, target | {"emoji": "👍"}))


async def all_is_right(
    listener: Wire,
    reader: Person,
    streams: list[Stream],
    changer: Changer,
    *,
    repeats_in_order: bool = True,
) -> None:
    """Checks that every acknowledged message is stored, in order, and that the listener received it once.

    `repeats_in_order`: False if repeated messages may be stored after later ones. That is so where nodes
    contend, since the messages behind a refused one are not refused as well.
    """
    first, *log = whole = await history(reader, streams[0].talk)
    assert [message["seq"] for message in whole] == list(range(1, len(whole) + 1))
    assert rising([message["rev"] for message in log])
    assert first["content"] in changer.texts
    by_id = {message["id"]: message for message in log}
    for stream in streams:
        said = [
            message["content"] for message in log if message["senderId"] == stream.wire.person.id
        ]
        everything = [f"{n}" for n in range(len(stream.asked))]
        if not repeats_in_order:
            assert sorted(said, key=int) == everything
            said, everything = (
                [text for text in texts if text not in stream.repeated]
                for texts in (said, everything)
            )
        assert said == everything
        assert [by_id[message["id"]] for message in stream.acked()] == stream.acked()
    heard = [event for event in listener.heard if event[0] in CHANGES]
    assert rising([told["rev"] for _, told in heard])
    assert listener.told("message:new")[1:] == log
    copy = Copy()
    copy.hear(heard)
    assert copy.in_order == whole


async def begin(
    people: People,
) -> tuple[Talk, Wire, list[Stream], Changer, list[asyncio.Task[None]]]:
    """Starts a conversation of four: three talk, one of these also edits from a second device, one listens."""
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    talk = await alice.group(bob, carol, dave)
    listener, *wires = [await Wire.connect(person) for person in (dave, alice, bob, carol, alice)]
    changed = await (await wires[3].say(talk, "edit me"))
    assert changed is not None
    streams, changer = (
        [Stream(wire, talk) for wire in wires[:3]],
        Changer(wires[3], changed["data"]),
    )
    running = [asyncio.create_task(stream.run()) for stream in (*streams, changer)]
    return talk, listener, streams, changer, running


async def end(streams: list[Stream], running: list[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.gather(*[answer for stream in streams for answer in stream.asked])


async def heard_settles(
    listener: Wire, reader: Person, talk: Talk, within: float = PATIENCE_S
) -> None:
    """Waits until the listener has received every stored message, without any further message."""
    async with asyncio.timeout(within):
        while True:
            stored = [message["id"] for message in await history(reader, talk)]
            if [message["id"] for message in listener.told("message:new")] == stored:
                return
            await asyncio.sleep(0.1)
