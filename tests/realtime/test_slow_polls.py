"""Polls whose responses are not read: one at a time, counted, and not kept forever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.conftest import Starter
from tests.support.bare import SEPARATOR, Polling, Unread
from tests.support.people import People
from tests.support.process_memory import memory_mb, queued_kb
from tests.support.raw import LONG, Wire, when
from tests.support.servers import ChatServer

PING_S = 5.0
GONE_S = 2 * PING_S + 0.5 + 0.2
"""A silent client is offline after this time: the ping, its time-out, the grace period, and the write to the
database."""
LATE_S = 1.3
"""Extra time on a busy machine."""


async def test_many_polls_with_unread_responses_cost_no_more_than_one(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """A client that polls and does not read costs no more than one that does not poll."""
    server = await start(
        LOG_LEVEL="warning", PING_INTERVAL_S=str(PING_S), PING_TIMEOUT_S=str(PING_S)
    )
    people = people_of(server)
    alice, bob, mallory = people("alice", "bob", "mallory")
    talk = await alice.direct(mallory)
    await bob.direct(mallory)
    # Not alice, who receives her own messages: while she is behind, presence events for her are dropped.
    witness = await Wire.connect(bob)
    desk, polling = await Wire.connect(alice), await Polling.connect(mallory)
    before = peak = memory_mb(server)
    kernel = 0.0
    asked: list[Unread] = []
    for _ in range(60):
        answers = await asyncio.gather(*[await desk.say(talk, LONG) for _ in range(20)])
        assert all(answer and answer["ok"] for answer in answers)
        asked.append(await Unread.ask(polling.url))
        peak, kernel = max(peak, memory_mb(server)), max(kernel, sum(queued_kb(server)))
    assert kernel > 0
    assert peak - before < 20, "not the 48 MB that were requested"
    await witness.until(lambda: witness.told("user:offline"), within=GONE_S + LATE_S)
    # The response does not outlive its session for long.
    await when(lambda: sum(queued_kb(server)) == 0)
    for writer in asked:
        writer.close()


async def test_the_next_poll_waits_until_the_last_response_is_read(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, polling = await Wire.connect(alice), await Polling.connect(bob)
    for n in range(20):
        await (await desk.say(talk, f"{n} {LONG[10:]}"))
    await desk.caught_up()
    unread = await Unread.ask(polling.url)
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(polling.get())
    last = (await (await desk.say(talk, "the last")))["data"]
    await asyncio.sleep(0.2)
    assert not waiting.done()
    first = (await unread.read()).decode().split(SEPARATOR)
    said = [packet.partition('"content":"')[2] for packet in first if "message:new" in packet]
    assert [body[:2].strip() for body in said] == [f"{n}" for n in range(20)]
    status, body = await waiting
    assert (status, body.count("message:new")) == (200, 1)
    assert last["id"] in body
    unread.close()
