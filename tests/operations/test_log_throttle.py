"""A client that does everything wrong, as fast as it can, cannot fill the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Starter
from tests.support.bare import BareSocket, event
from tests.support.people import People
from tests.support.raw import Wire, when
from tests.support.servers import ChatServer

MOST = 50
"""Maximum number of lines per kind and second."""


class Lines:
    """The log lines of a server."""

    def __init__(self, server: ChatServer) -> None:
        self._server = server

    def all(self, **like: Any) -> list[Any]:
        lines = [json.loads(line) for line in self._server.log.splitlines() if line[:1] == "{"]
        return [line for line in lines if like.items() <= line.items()]

    def counted(self, of: str, **like: Any) -> int:
        """Returns the number of lines, including those left out."""
        left_out = self.all(event="left out", of=of, **like)
        return len(self.all(event=of, **like)) + sum(summary["count"] for summary in left_out)


async def test_refusals_are_counted_but_not_all_written(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(RATE_LIMITS="on")
    people, lines = people_of(server), Lines(server)
    mallory, alice, bob = people("mallory", "alice", "bob")
    talk = await alice.direct(bob)
    desk = await Wire.connect(alice)
    flood = await BareSocket.connect(mallory)
    began = time.monotonic()
    count = 2000

    async def read_answers() -> None:
        """Reads until everything is answered, except the events whose attachments never come."""
        answers = 0
        while answers < 4 * count:
            _, data = await flood.frame()
            answers += data.startswith(b"43")

    reading = asyncio.create_task(read_answers())
    for n in range(count):
        await flood.write(event(4 * n, "made-up"))
        await flood.write(event(4 * n + 1, "message:send", {"$wrong": n}))
        await flood.write(f'42{4 * n + 2}["unread"')
        await flood.write(f'451-{4 * n + 3}["binary",{{"_placeholder":true,"num":0}}]')
    # Meanwhile every valid event of another client is logged.
    for n in range(100):
        assert (await (await desk.say(talk, f"{n}")))["ok"]
    await asyncio.wait_for(reading, 60)

    async def knock() -> None:
        wire = await Wire.open(mallory)
        await wire.write('40{"token":"forged"}')
        await wire.until(lambda: wire.frames[1:])
        await wire.close()

    await asyncio.gather(*[knock() for _ in range(150)])
    forged = {"headers": {"Authorization": "Bearer forged"}}
    for _ in range(150):
        assert (await mallory.request("GET", "/conversations", **forged))[0] == 401

    refused = {"code": "RATE_LIMITED"}
    await when(lambda: lines.counted("event", **refused) > 4 * count - 1000)
    await when(lambda: lines.counted("refused", code="UNAUTHENTICATED") == 150)
    await when(lambda: lines.counted("request", code="UNAUTHENTICATED") == 150)
    seconds = time.monotonic() - began + 1
    await when(
        lambda: (
            lines.counted("event", **refused) + lines.counted("event", code="VALIDATION_FAILED")
            == 4 * count
        )
    )
    for kind in (
        {"event": "event", "code": "RATE_LIMITED"},
        {"event": "event", "code": "VALIDATION_FAILED"},
        {"event": "refused"},
        {"event": "request", "code": "UNAUTHENTICATED"},
    ):
        assert 1 <= len(lines.all(**kind)) <= MOST * seconds
    assert len(lines.all(event="event", code="RATE_LIMITED")) < count
    assert len(lines.all(event="event", name="message:send", code="OK")) == 100
    flood.abort()


async def test_a_client_that_connects_all_the_time_is_counted(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """With a valid token, and faster than a server with rate limits would allow."""
    server = await start(RATE_LIMITS="off")
    people, lines = people_of(server), Lines(server)
    mallory = people("mallory")
    began = time.monotonic()
    for _ in range(30):
        wires = await asyncio.gather(*[Wire.connect(mallory) for _ in range(10)])
        await asyncio.gather(*[wire.close() for wire in wires])
    await when(lambda: lines.counted("disconnected") == 300)
    connects = lines.all(event="event", name="connect", code="OK")
    left_out = lines.all(event="left out", of="connect")
    assert len(connects) + sum(summary["count"] for summary in left_out) == 300
    seconds = time.monotonic() - began + 1
    assert len(connects) <= MOST * seconds
    assert len(lines.all(event="disconnected")) <= MOST * seconds
    assert all(summary["level"] == "info" for summary in left_out)
