"""200 clients stop reading at the same time: their cost is bounded, and no other client notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.conftest import Starter
from tests.support.bare import BareSocket
from tests.support.browsers import Browser
from tests.support.exposition import connections
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.process_memory import memory_mb, queued_kb
from tests.support.raw import Wire, when
from tests.support.servers import ChatServer

SLOW = 200
MESSAGES = 10_000
TEXT = "x" * 300
BUDGET_MB = 1.0
"""Unsent bytes that the server buffers for a socket."""
KERNEL_KB = 128
"""Unsent bytes that the server's kernel buffers for a socket, with some overhead."""
PING_TIMEOUT_S = 60.0
"""Long, so that the clients which do not read are disconnected for that, and not for the missing pong."""


async def test_200_clients_that_stop_reading_cost_no_more_than_their_budget(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(
        LOG_LEVEL="warning", PING_INTERVAL_S="5", PING_TIMEOUT_S=str(PING_TIMEOUT_S)
    )
    people = people_of(server)
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    lazy = people(*[f"lazy{n}" for n in range(SLOW // 10)])
    talk = await alice.group(bob, carol, dave, *lazy)
    desk, listener, phone = [await Wire.connect(person) for person in (alice, bob, carol)]
    browser = await Browser.open(dave, "websocket")
    await browser.hears("connected")
    sleepers = [
        await BareSocket.connect(person, receive_buffer=4096) for person in lazy for _ in range(10)
    ]
    begin = (await (await desk.say(talk, "begin")))["data"]
    await browser.hears("message:new", lambda message: message["id"] == begin["id"])
    before = memory_mb(server)
    browser.client.hold()
    began = time.monotonic()
    peak, kernel = before, 0.0
    gone_after = 0.0
    for _ in range(MESSAGES // 100):
        answers = await asyncio.gather(*[await desk.say(talk, TEXT) for _ in range(100)])
        assert all(answer and answer["ok"] for answer in answers)
        peak = max(peak, memory_mb(server))
        kernel = max([kernel, *queued_kb(server)])
        if not gone_after and await connections(people.server) <= 3:
            gone_after = time.monotonic() - began
    # The clients that read have everything, in order, and never waited long.
    for wire in (desk, listener, phone):
        await wire.caught_up()
        seqs = [message["seq"] for message in wire.told("message:new")]
        assert seqs == list(range(1, MESSAGES + 2))
        assert wire.slowest < 2 * slowness()
        assert not wire.gone.is_set()
    # All others were disconnected, and the server did not wait for them.
    assert 0 < gone_after < PING_TIMEOUT_S
    assert peak - before < SLOW * BUDGET_MB + 32
    assert kernel < 2 * KERNEL_KB
    assert await connections(people.server) == 3
    await when(lambda: sum(size > 0 for size in queued_kb(server)) == 0)

    # The official client reconnects by itself, and gets all that it missed.
    browser.client.go_on()
    await browser.hears("client:disconnect")
    await browser.hears("connected")
    rev, missed = begin["rev"], []
    while True:
        page = await browser.do(
            "messages:sync", {"conversationId": talk["id"], "afterRev": rev, "limit": 200}
        )
        missed += page["messages"]
        rev = missed[-1]["rev"]
        if not page["hasMore"]:
            break
    assert [message["seq"] for message in missed] == list(range(2, MESSAGES + 2))
    for sleeper in sleepers:
        sleeper.abort()
