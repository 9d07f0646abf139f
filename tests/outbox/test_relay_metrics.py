"""The webhook metrics of a server, with and without a running or responding relay."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.conftest import Starter
from tests.support.patience import PATIENCE_S, slowness
from tests.support.receiver import Receiver
from tests.support.relays import NOBODY, Of, children, metrics, ready
from tests.support.servers import ChatServer, MongoServer, RelayServer


async def test_the_backlog_is_shown_whether_or_not_a_relay_runs(
    start: Starter, people_of: Of, mongo_url: str, tmp_path: Path
) -> None:
    async with Receiver() as receiver:
        receiver.answer = lambda post: 410 if post.event["type"] == "message.created" else 200
        server = await start(WEBHOOK_URL=receiver.url, WEBHOOK_RELAY="off")
        nothing = {"pending": 0.0, "oldest_seconds": 0.0, "dead": 0.0}
        assert await waiting(server) == nothing
        alice, bob = people_of(server)("alice", "bob")
        talk = await alice.direct(bob)
        for text in ("One", "Two"):
            await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": text})
        await asyncio.sleep(0.3)
        before = await waiting(server)
        assert (before["pending"], before["dead"]) == (3, 0)
        assert 0.3 <= before["oldest_seconds"] < 30
        await asyncio.sleep(0.5)
        assert (await waiting(server))["oldest_seconds"] >= before["oldest_seconds"] + 0.4

        relay = RelayServer(
            mongo_url,
            server.env["MONGO_DATABASE"],
            tmp_path / "relay",
            WEBHOOK_URL=receiver.url,
        )
        try:
            await relay.start()
            await receiver.until(lambda: len(receiver.posts) == 3)
            async with asyncio.timeout(PATIENCE_S):
                while await waiting(server) != {**nothing, "dead": 2}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            done = await metrics(relay)
            for outcome, count in {"delivered": 1, "failed": 2, "dead": 2}.items():
                assert done[f"chat_webhook_deliveries_total default {outcome}"] == count
            assert done["chat_webhook_attempt_seconds_count default"] == 3
            delivered = done["chat_webhook_deliveries_total default delivered"]
            assert done["chat_webhook_delay_seconds_count default"] == delivered
            assert done["chat_webhook_in_flight default"] == 0
        finally:
            assert await relay.stop() == 0


async def waiting(server: ChatServer) -> dict[str, float]:
    now = await metrics(server)
    names = ("pending", "oldest_seconds", "dead")
    return {name: now[f"chat_webhook_{name} default"] for name in names}


async def test_a_scrape_works_in_part_without_the_database(
    own_mongo: MongoServer, start: Starter
) -> None:
    server = await start(own_mongo.url, WEBHOOK_URL=NOBODY)
    await ready(server)
    await asyncio.to_thread(own_mongo.kill)
    began = time.monotonic()
    now = await metrics(server)
    assert time.monotonic() - began < 3 * slowness(), "less than the driver waits for a server"
    assert now["chat_connections websocket"] == 0
    assert "chat_webhook_relay_ready" in now
    assert "chat_webhook_pending default" not in now
    await asyncio.to_thread(own_mongo.start)
    await ready(server)
    assert "chat_webhook_pending default" in await metrics(server)


async def test_a_scrape_does_not_wait_for_a_relay_that_does_not_answer(start: Starter) -> None:
    server = await start(WEBHOOK_URL=NOBODY)
    await ready(server)
    (child,) = children(server)
    os.kill(child, signal.SIGSTOP)
    try:
        began = time.monotonic()
        now = await metrics(server)
        assert time.monotonic() - began < 3 * slowness(), "less than the driver waits for a server"
    finally:
        os.kill(child, signal.SIGCONT)
    assert "chat_webhook_relay_ready" not in now
    assert "chat_webhook_pending default" in now
