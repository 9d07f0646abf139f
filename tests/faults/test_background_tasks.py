"""Every background task of a server and of a relay continues after an error that nobody expected."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import aiohttp

from tests.support.people import People, Person
from tests.support.processes import until
from tests.support.raw import Wire
from tests.support.receiver import Receiver
from tests.support.redises import RedisServer
from tests.support.relays import lines
from tests.support.servers import WEBHOOK_SECRET, ChatServer, RelayServer

OF_A_NODE = {
    "catch up",
    "record presence",
    "renew the lease",
    "repair what other nodes did not write",
    "watch stalls",
    "write activityAt",
    "work on jobs",
}
OF_A_RELAY = {"deliver events", "renew the lease", "scan", "watch stalls"}


async def fail_tasks(server: ChatServer, names: set[str], *active: Person) -> None:
    """Returns when every task has failed and started again. Some run only while somebody is active."""
    server.signal(signal.SIGUSR1)
    for person in active:
        await Wire.connect(person.at(server))
    await until(
        lambda: len(lines(server, "a background task failed and starts again")) >= len(names)
    )
    failed = {line["task"] for line in lines(server, "a task fails")}
    assert failed == names
    restarted = [
        line["task"] for line in lines(server, "a background task failed and starts again")
    ]
    assert sorted(restarted) == sorted(names)


async def test_all_background_tasks_come_back(
    mongo_url: str,
    own_redis: RedisServer,
    worker: str,
    tmp_path: Path,
    session: aiohttp.ClientSession,
) -> None:
    database = f"tasks-{worker}-{time.time_ns()}"
    async with Receiver(WEBHOOK_SECRET) as receiver:
        settings = {
            "REDIS_URL": own_redis.url,
            "WEBHOOK_URL": receiver.url,
            "WEBHOOK_RELAY": "off",
            "LOG_FORMAT": "json",
        }
        here, there = (
            ChatServer(mongo_url, database, tmp_path / name, **settings) for name in ("a", "b")
        )
        relay = RelayServer(mongo_url, database, tmp_path / "relay", **settings)
        servers = (here, there, relay)
        try:
            for server in servers:
                server.module = "tests.support.failing_tasks"
                await server.start()
            people = People(here, session)
            alice, bob, carol = people("alice", "bob", "carol")
            talk = await alice.group(bob, carol)
            wire = await Wire.connect(alice)
            await wire.do("message:send", {"conversationId": talk["id"], "content": "Before"})

            await fail_tasks(here, OF_A_NODE, carol)
            await fail_tasks(relay, OF_A_RELAY)

            phone = await Wire.connect(bob.at(there))
            await wire.until(lambda: bob.id in [who["userId"] for who in wire.told("user:online")])
            sent = await phone.do(
                "message:send", {"conversationId": talk["id"], "content": "After"}
            )
            await wire.until(lambda: sent in wire.told("message:new"))
            await receiver.until(
                lambda: (
                    sent
                    in [event["data"].get("message", event["data"]) for event in receiver.events]
                )
            )
            await phone.close()
            await wire.until(lambda: bob.id in [who["userId"] for who in wire.told("user:offline")])
        finally:
            for server in servers:
                await server.stop()
