"""A user connects another device at the moment at which a conversation with the user is created on another node."""

from __future__ import annotations

import asyncio
import random

from tests.support.people import People, Person
from tests.support.raw import Wire

TIMES = 60
CONNECTS_S = 0.06
"""About the time that a device takes to connect."""


async def test_both_devices_are_in_the_conversation(people: People) -> None:
    alice, bob = people("alice", "bob")
    desk = await Wire.connect(alice)
    assert bob.nodes is not None
    bob_there = Person(bob.nodes.another(), bob.id, bob.session)
    first = await Wire.connect(bob_there)

    async def connect_soon() -> Wire:
        await asyncio.sleep(random.uniform(0, CONNECTS_S))
        return await Wire.connect(bob_there)

    def has_heard(wire: Wire, text: str) -> bool:
        return any(message["content"] == text for message in wire.told("message:new"))

    for n in range(TIMES):
        talk, second = await asyncio.gather(alice.group(bob), connect_soon())
        await desk.do("message:send", {"conversationId": talk["id"], "content": f"{n}"})
        for wire in (first, second):
            await wire.until(lambda wire=wire, n=n: has_heard(wire, f"{n}"))  # type: ignore[misc]
        await second.close()
    created = [new["id"] for new in first.told("conversation:new")]
    assert len(created) == len(set(created)) == TIMES
    assert [message["content"] for message in first.told("message:new")] == [
        f"{n}" for n in range(TIMES)
    ]
