"""For a while the database refuses commands with errors that no code expects. Afterwards everything works again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from chatserver import tasks
from tests.conftest import Starter
from tests.support.patience import PATIENCE_S
from tests.support.people import People, Refused, presence
from tests.support.receiver import Receiver
from tests.support.servers import ChatServer, MongoServer

Of = Callable[[ChatServer], People]

COMMANDS = ("find", "insert", "update", "delete", "aggregate", "getMore", "findAndModify")
TRANSACTIONS = ("commitTransaction", "abortTransaction")
CODE = 8000
"""An error of a hosted MongoDB, which does not mean "down". `./scripts/faults` tries others."""
LASTS_S = 2.0


async def until_it_works(work: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await work()  # type: ignore[misc]
            except (Refused, AssertionError):
                await asyncio.sleep(0.2)
            else:
                return


async def test_every_part_of_the_server_survives(
    own_mongo: MongoServer, start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver:
        server = await start(
            own_mongo.url,
            WEBHOOK_URL=receiver.url,
            WEBHOOK_RETRY_FIRST_S="0.1",
            WEBHOOK_RETRY_MAX_S="0.5",
        )
        server.may_log_errors = True
        people = people_of(server)
        alice, bob = people("alice", "bob")
        group = await alice.group(bob)
        desk = await alice.connect()
        here = {"conversationId": group["id"]}
        carol = people("carol")
        with own_mongo.failing(*COMMANDS, *TRANSACTIONS, errorCode=CODE):
            ending = asyncio.get_running_loop().time() + LASTS_S
            while asyncio.get_running_loop().time() < ending:
                # All kinds of writes are refused, and all background tasks meet the error.
                for event, payload in (
                    ("message:send", {**here, "content": "lost"}),
                    ("conversation:read", here),
                    ("typing:start", here),
                    ("activity:ping", {}),
                ):
                    try:
                        await desk.do(event, payload)
                    except Refused as refusal:
                        assert refusal.code in ("INTERNAL", "UNAVAILABLE")  # noqa: PT017
                await asyncio.sleep(0.05)

        async def say() -> None:
            await desk.say(group, "after", clientMessageId="after")

        await until_it_works(say)
        await desk.hears("message:new", lambda new: new["content"] == "after")
        # The conversation takes every other kind of change, too.
        sent = await bob.ask("POST", f"/conversations/{group['id']}/messages", {"content": "Hi"})
        await desk.do("message:read", {"messageId": sent["id"]})
        await desk.do("reaction:add", {"messageId": sent["id"], "emoji": "👍"})
        await alice.ask("PATCH", f"/conversations/{group['id']}", {"name": "Name"})
        # Presence is recorded and announced, in both directions.
        async with asyncio.timeout(PATIENCE_S):
            await carol.direct(alice)
            phone = await carol.connect()
            await presence(alice, carol.id, "online")
            await phone.close()
            await presence(alice, carol.id, "offline")
        # Webhooks are delivered.
        await receiver.until(lambda: sent["id"] in str(receiver.events))
        # A deleted conversation is cleared.
        await alice.ask("DELETE", f"/conversations/{group['id']}")
        async with asyncio.timeout(PATIENCE_S):
            # Only the job that is always there is left.
            while own_mongo.count(server.env["MONGO_DATABASE"], "jobs") > 1:  # noqa: ASYNC110  a query
                await asyncio.sleep(0.2)


async def test_a_background_task_starts_again_after_an_error() -> None:
    runs: list[int] = []
    ended = asyncio.Event()

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise KeyError("a bug")
        ended.set()
        await asyncio.Event().wait()

    task = tasks.keep("test", work)
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()
    assert not task.done()
    await tasks.end(task)
    assert task.cancelled()
    assert runs == [0, 1, 2]


async def test_a_background_task_ends_when_its_work_returns() -> None:
    async def work() -> None:
        return

    await asyncio.wait_for(tasks.keep("test", work), PATIENCE_S)


async def test_for_what_tasks_wait_is_shown() -> None:
    async def waits_for_nothing() -> None:
        await asyncio.Event().wait()

    waiting = [asyncio.create_task(waits_for_nothing()) for _ in range(3)]
    await asyncio.sleep(0)
    shown = [line for line in tasks.waiting() if "waits_for_nothing" in line]
    assert len(shown) == 1
    assert shown[0].startswith("3 x ")
    assert "Event.wait" in shown[0]
    for task in waiting:
        await tasks.end(task)
    with pytest.raises(asyncio.CancelledError):
        waiting[0].result()
