"""Transactions, and the settling of those without an answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pymongo
import structlog
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession as Session
from pymongo.errors import PyMongoError

from ..observability.metrics import Families
from .failures import duplicate_of, is_down
from .operations import Operations

log = structlog.get_logger(__name__)

T = TypeVar("T")

AGAIN_S = 0.5
"""Time between two attempts to settle a write without an answer."""
MAX_AGAIN_S = 30.0
"""The same, if the database keeps refusing."""


class Transactions:
    """Runs transactions. One without an answer is settled in the background, until `close`."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], operations: Operations) -> None:
        self._client = client
        self._operations = operations
        self._settling: set[asyncio.Task[None]] = set()

    def watch(self, metrics: Families) -> None:
        metrics.memory("writes of unknown outcome", lambda: len(self._settling), None)

    def close(self) -> None:
        for settling in self._settling:
            settling.cancel()

    async def run(
        self,
        body: Callable[[Session], Awaitable[T]],
        *,
        if_unsure: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """Run `body` in a transaction and commit: either all of its writes are stored or none.

        `body` runs again after a transient conflict, so it must have no effects but its writes.

        `if_unsure` runs later if this call ends without knowing whether the writes were stored. By then the
        database has decided, and answers. It should read, and announce what it finds.
        """

        async def transaction() -> T:
            session = self._client.start_session()
            try:
                with pymongo.timeout(self._operations.timeout_s):
                    result = await session.with_transaction(body)
            except BaseException as error:
                if _may_be_open(error):
                    self._abandon(session, if_unsure)
                else:
                    await session.end_session()
                raise
            await session.end_session()
            return result

        return await self._operations.run("transaction", transaction)

    def _abandon(self, session: Session, if_unsure: Callable[[], Awaitable[None]] | None) -> None:
        """End a transaction of which it is unknown whether it was committed.

        Until it ends, it keeps its locks, and a repeat of the request would wait for them.
        """

        async def kill() -> None:
            with pymongo.timeout(self._operations.timeout_s):
                await self._client.admin.command("killSessions", [session.session_id])

        async def end() -> None:
            await _until_it_answers(kill)
            # Not before: the driver gives the session to another operation.
            await session.end_session()
            if if_unsure is not None:
                await _until_it_answers(if_unsure)

        self._begin(end())

    def later(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` in the background, again and again until the database answers."""
        self._begin(_until_it_answers(work))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        settling = asyncio.get_running_loop().create_task(_settle(work))
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)


def _may_be_open(error: BaseException) -> bool:
    """True if the transaction may still be open in the database, or may have been committed.

    MongoDB ends a transaction itself when one of its writes violates a unique index. When it refuses a commit,
    or a write and then the abort, the transaction stays open.
    """
    if isinstance(error, PyMongoError):
        return duplicate_of(error) is None
    return isinstance(error, (asyncio.CancelledError, TimeoutError))


async def _settle(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # the caller has long gone
        log.exception("a write without an answer could not be settled")


async def _until_it_answers(work: Callable[[], Awaitable[None]]) -> None:
    pause = AGAIN_S
    while True:
        try:
            return await work()
        except PyMongoError as error:
            if not is_down(error):
                # It may be refused for a while only. If it is refused for ever, it must not cost much.
                log.warning("a write without an answer cannot be settled yet", error=str(error))
                pause = min(2 * pause, MAX_AGAIN_S)
        await asyncio.sleep(pause * random.uniform(0.5, 1))
