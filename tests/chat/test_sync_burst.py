"""A client that reconnects syncs many conversations at the same time, over a slow line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Starter
from tests.support.bare import BareSocket, Polling, event
from tests.support.patience import PATIENCE_S
from tests.support.people import People
from tests.support.raw import LONG, Wire
from tests.support.servers import ChatServer

PAGES = 40
"""Each has some 160 KB. Together they are six times the limit for a client's unsent data."""


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_client_that_requests_a_lot_gets_it_as_fast_as_it_reads(
    start: Starter, people_of: Callable[[ChatServer], People], transport: str
) -> None:
    server = await start(LOG_LEVEL="warning")
    people = people_of(server)
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await Wire.connect(alice)
    for n in range(4):
        assert (await (await desk.say(talk, LONG, f"{n}")))["ok"]
    sync = {"conversationId": talk["id"], "afterRev": 0}
    asked = [event(n, "messages:sync", sync) for n in range(PAGES)]

    if transport == "websocket":
        slow = await BareSocket.connect(bob, receive_buffer=4096)
        for request in asked:
            await slow.write(request)
        await asyncio.sleep(0.5)
        acks: list[bytes] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(acks) < PAGES:
                _, data = await slow.frame()
                if data.startswith(b"43"):
                    acks.append(data)
        slow.abort()
    else:
        poller = await Polling.connect(bob)
        for request in asked:
            assert (await poller.post(request))[0] == 200
        await asyncio.sleep(0.5)
        acks = [packet.encode() for packet in await poller.poll_for("43", PAGES)]
    for n, ack in enumerate(acks):
        number, _, body = ack[2:].partition(b"[")
        assert int(number) == n
        answer: Any = json.loads(b"[" + body)[0]
        assert [message["seq"] for message in answer["data"]["messages"]] == [1, 2, 3, 4]
    await desk.caught_up()


async def test_a_client_that_requests_a_lot_and_reads_nothing_is_disconnected(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Its waiting replies are dropped with it, and delay neither other clients nor the server's stop."""
    server = await start(LOG_LEVEL="warning", PING_INTERVAL_S="2", PING_TIMEOUT_S="1")
    people = people_of(server)
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await Wire.connect(alice)
    for n in range(4):
        assert (await (await desk.say(talk, LONG, f"{n}")))["ok"]
    sync = {"conversationId": talk["id"], "afterRev": 0}
    stuck = [await BareSocket.connect(bob, receive_buffer=4096) for _ in range(2)]
    for client in stuck:
        for n in range(PAGES):
            await client.write(event(n, "messages:sync", sync))
    poller = await Polling.connect(bob)
    await poller.post("\x1e".join(event(n, "messages:sync", sync) for n in range(PAGES)))
    await desk.until(lambda: desk.told("user:offline"))
    await desk.caught_up()
    again = await BareSocket.connect(bob, receive_buffer=4096)
    for n in range(PAGES):
        await again.write(event(n, "messages:sync", sync))
    await asyncio.sleep(0.3)
    assert await asyncio.wait_for(server.stop(), 8) == 0
    for client in (*stuck, again):
        client.abort()
