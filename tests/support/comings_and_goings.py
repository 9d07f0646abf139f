"""Many people who connect and disconnect, and the presence events about them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp

from .patience import PATIENCE_S
from .people import Person, Refused
from .raw import Wire
from .servers import ChatServer

GRACE_S = 0.5
"""A user who reconnects within this time was never offline."""
SETTLED_S = 1.2
"""The time for the grace period, the gathering and the recording."""


def heard_of(wire: Wire, person: Person) -> list[str]:
    return [
        name.removeprefix("user:")
        for name, payload in wire.heard
        if name in ("user:online", "user:offline") and payload["userId"] == person.id
    ]


@asynccontextmanager
async def crowd(server: ChatServer, number: int) -> AsyncIterator[list[Person]]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield [Person(server, f"crowd-{n}", session) for n in range(number)]


async def arrive(people: Iterable[Person]) -> list[Wire]:
    at_once = asyncio.Semaphore(50)

    async def connect(person: Person) -> Wire:
        async with at_once, asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await Wire.connect(person)
                except Refused as refusal:  # a busy machine; a client tries again
                    if refusal.code != "UNAVAILABLE":
                        raise

    return await asyncio.gather(*[connect(person) for person in people])
