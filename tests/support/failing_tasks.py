"""A server whose background tasks fail once after SIGUSR1, those that begin later too.

`python -m tests.support.failing_tasks serve` (or `relay`).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog

from chatserver import tasks
from chatserver.cli import main

log = structlog.get_logger(__name__)
keep = tasks.keep
kept: set[asyncio.Task[None]] = set()
failed: set[str] = set()
failing = False


def keep_and_note(name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, fail_all)
    task = keep(name, work)
    kept.add(task)
    task.add_done_callback(kept.discard)
    if failing:
        fail(task)
    return task


def fail_all() -> None:
    """Fails each task at the point where it waits."""
    global failing
    failing = True
    for task in kept:
        fail(task)


def fail(task: asyncio.Task[None]) -> None:
    if task.get_name() not in failed:
        failed.add(task.get_name())
        fail_where_it_waits(task)


def fail_where_it_waits(task: asyncio.Task[None]) -> None:
    if task.done():
        return
    awaited: asyncio.Future[None] | None = task._fut_waiter  # type: ignore[attr-defined]
    if awaited is None or awaited.done():  # it runs in this turn of the event loop
        asyncio.get_running_loop().call_soon(fail_where_it_waits, task)
        return
    awaited.set_exception(RuntimeError("of the test"))
    log.warning("a task fails", task=task.get_name())


if __name__ == "__main__":
    tasks.keep = keep_and_note
    main()
