"""Faults at the playground: connections are cut, nodes freeze or die. Each page reconnects and misses nothing."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.people import Device, Person
from tests.support.servers import ChatServer, chat_server
from tests.support.visits import Cast, Visit, Visitor

# The shortest heartbeat, so that a silent connection is given up soon.
PINGS = {"PING_INTERVAL_S": "2", "PING_TIMEOUT_S": "1"}


@pytest_asyncio.fixture(scope="module")
async def pair(
    mongo_url: str, redis_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[ChatServer]]:
    """Two nodes for tests with faults."""
    folder = tmp_path_factory.mktemp("pair")
    settings = {"REDIS_URL": redis_url, **PINGS}
    async with AsyncExitStack() as stack:
        starting = [
            stack.enter_async_context(
                chat_server(mongo_url, f"pair-{worker}", folder / f"log-{n}", **settings)
            )
            for n in range(2)
        ]
        yield list(await asyncio.gather(*starting))


async def say_all(device: Device, group: Any, texts: list[str]) -> None:
    for text in texts:
        await device.say(group, text)


async def agrees(visit: Visit, bob: Person, group: Any) -> None:
    """The page shows the stored messages: in order, each once."""
    await expect(visit.pane.locator(".message.pending")).to_have_count(0)
    page = await bob.ask("GET", f"/conversations/{group['id']}/messages")
    await visit.sees(*[message["content"] for message in page["items"]])


async def test_a_connection_that_was_cut_and_restored_misses_nothing(
    pair: list[ChatServer], cast: Cast, visitor: Visitor
) -> None:
    bob, other = cast(pair[1:], "bob", "alice")
    group = await bob.group(other, name="Cut")
    alice = await visitor(pair[0], "alice")
    await alice.open("Cut")
    device = await bob.connect()
    await say_all(device, group, ["Before"])
    await alice.sees("Before")
    await alice.switch.click()
    await expect(alice.status).to_have_text("line cut")
    await expect(alice.pane.locator(".freshness")).to_have_text("stale")
    await alice.says("Mine, one")
    await alice.says("Mine, two")
    missed = [f"Missed {n}" for n in range(5)]
    await say_all(device, group, missed)
    await alice.sees("Before", "Mine, one", "Mine, two")
    await expect(alice.message("Mine, two").locator(".about")).to_contain_text("sending…")
    await expect(alice.page.locator(".pane.right .status")).to_have_text("online")
    await alice.switch.click()
    await expect(alice.status).to_have_text("online")
    await alice.sees("Before", *missed, "Mine, one", "Mine, two")
    await agrees(alice, bob, group)


async def test_a_silent_connection_is_given_up_and_reconnects(
    pair: list[ChatServer], cast: Cast, visitor: Visitor
) -> None:
    bob, other = cast(pair[1:], "bob", "alice")
    group = await bob.group(other, name="Silent")
    alice = await visitor(pair[0], "alice", network_fails=True)
    await alice.open("Silent")
    device = await bob.connect()
    await say_all(device, group, ["Before"])
    await alice.sees("Before")
    pair[0].signal(signal.SIGSTOP)
    try:
        await alice.says("Into the silence")
        await say_all(device, group, ["Missed"])
        await expect(alice.status).not_to_have_text("online")
    finally:
        pair[0].signal(signal.SIGCONT)
    await expect(alice.status).to_have_text("online")
    await expect(alice.messages).to_have_count(3)
    await agrees(alice, bob, group)


async def test_the_page_reconnects_to_a_node_that_was_killed_and_restarted(
    pair: list[ChatServer], cast: Cast, visitor: Visitor
) -> None:
    bob, other = cast(pair[1:], "bob", "alice")
    group = await bob.group(other, name="Killed")
    alice = await visitor(pair[0], "alice", network_fails=True)
    await alice.open("Killed")
    device = await bob.connect()
    await say_all(device, group, ["Before"])
    await alice.sees("Before")
    await pair[0].kill()
    await expect(alice.pane.locator(".again")).to_contain_text(re.compile(r"^in \d+ s$"))
    await alice.says("To nobody")
    await say_all(device, group, ["Missed"])
    # The button disappears during the attempt, and the focus must not be lost with it.
    await alice.pane.get_by_role("button", name="Now").press("Enter")
    await pair[0].start()
    await expect(alice.status).to_have_text("online")
    await expect(alice.pane.locator(":focus")).to_be_visible()
    await alice.sees("Before", "Missed", "To nobody")
    await agrees(alice, bob, group)
