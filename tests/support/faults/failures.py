"""The columns of the table: every way in which a write can fail."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pymongo

from chatserver.settings import DATABASE_MARGIN_S

from .stage import Stage

FROZEN_S = 6.0

ERRORS: dict[str, dict[str, Any]] = {
    "not primary": {"errorCode": 10107},
    "shuts down": {"errorCode": 91},
    "connection closed": {"closeConnection": True},
    "no majority": {"writeConcernError": {"code": 64, "errmsg": "the majority did not answer"}},
    "unauthorized": {"errorCode": 13},
    "temporarily unavailable": {"errorCode": 365},
    "hosted": {"errorCode": 8000},
    "too late": {"blockConnection": True},
}
"""How a command fails: see MongoDB's fail point `failCommand`. 365 comes from a shard, 8000 from a hosted MongoDB."""

WRITES = ("insert", "update", "delete", "findAndModify")
COMMANDS: dict[str, tuple[str, ...]] = {
    "read": ("find", "aggregate", "getMore"),
    "insert": ("insert",),
    "update": ("update",),
    "commit": ("commitTransaction",),
    # A transaction is aborted when something else has failed, and keeps its locks when the abort fails, too.
    "abort after an insert": ("update", "delete", "findAndModify", "abortTransaction"),
    "abort after an update": ("insert", "abortTransaction"),
    "anything": ("find", "aggregate", "getMore", *WRITES, "commitTransaction", "abortTransaction"),
}


@dataclass(frozen=True)
class Failure:
    """`strikes` encloses the attempts: the failure begins before them, and has ended after the block.

    `command`: the kind of command that fails, if the others do not. `caller_stays_s`: the caller goes away when it
    has waited this long. By default it waits for the answer.
    """

    name: str
    strikes: Callable[[Stage], AbstractAsyncContextManager[None]]
    command: str | None = None
    caller_stays_s: Callable[[Stage], float] | None = None


@asynccontextmanager
async def _fails(
    commands: tuple[str, ...], how: dict[str, Any], stage: Stage
) -> AsyncIterator[None]:
    late_ms = int(1000 * (stage.timeout_s + 1))
    failing = stage.mongo.failing(*commands, blockTimeMS=late_ms, **how)
    await asyncio.to_thread(failing.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(failing.__exit__, None, None, None)


@asynccontextmanager
async def _holds_requests(stage: Stage) -> AsyncIterator[None]:
    """They arrive late, when their callers have been refused."""
    with stage.proxy.holding_requests():
        yield


@asynccontextmanager
async def _holds_answers(stage: Stage) -> AsyncIterator[None]:
    """They arrive late, when their callers have been refused."""
    with stage.proxy.holding_answers():
        yield


@asynccontextmanager
async def _loses_answers(stage: Stage) -> AsyncIterator[None]:
    with stage.proxy.holding_answers():
        yield
        stage.proxy.cut()


@asynccontextmanager
async def _steps_down(stage: Stage) -> AsyncIterator[None]:
    """The only member steps down, and is elected again after a second: in a set of one nobody else can be."""

    def step_down() -> None:
        with pymongo.MongoClient(stage.mongo.url) as client:
            client.admin.command("replSetStepDown", 1, force=True)

    def primary() -> None:
        with pymongo.MongoClient(stage.mongo.url) as client:
            client.admin.command("ping")

    stepping = asyncio.create_task(asyncio.to_thread(step_down))
    try:
        await asyncio.sleep(random.uniform(0, 0.05))
        yield
    finally:
        await stepping
        await asyncio.to_thread(primary)


@asynccontextmanager
async def _freezes(stage: Stage) -> AsyncIterator[None]:
    stage.mongo.signal(signal.SIGSTOP)
    thaws = asyncio.create_task(asyncio.sleep(FROZEN_S))
    try:
        yield
        await thaws
    finally:
        stage.mongo.signal(signal.SIGCONT)


def _soon(_: Stage) -> float:
    return 0.3


def _as_it_times_out(stage: Stage) -> float:
    return stage.timeout_s - DATABASE_MARGIN_S + random.uniform(-0.02, 0.06)


FAILURES = (
    *(
        Failure(f"{where}: {error}", partial(_fails, commands, how), where)
        for where, commands in COMMANDS.items()
        for error, how in ERRORS.items()
        # A command that only reads has no write concern.
        if (where, error) != ("read", "no majority")
    ),
    Failure("requests arrive late", _holds_requests),
    Failure("answers arrive late", _holds_answers),
    Failure("answers are lost", _loses_answers),
    Failure("the caller goes before the write", _holds_requests, caller_stays_s=_soon),
    Failure("the caller goes before the answer", _holds_answers, caller_stays_s=_soon),
    Failure("the caller goes as it times out", _holds_answers, caller_stays_s=_as_it_times_out),
    Failure("the caller goes from a frozen database", _freezes, caller_stays_s=_as_it_times_out),
    Failure("the primary steps down", _steps_down),
    Failure("the database freezes", _freezes),
)
