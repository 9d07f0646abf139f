"""Work beside the main work of a server: tasks and child processes.

Tasks are kept running and ended, and it is shown for what they wait. Ctrl-C in a terminal does not reach child
processes, and none outlives a server that ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
from asyncio.subprocess import Process, create_subprocess_exec
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

log = structlog.get_logger(__name__)

RESTART_S = 1.0
"""The longest pause before a task that failed starts again."""
AGAIN_S = 1.0
INNERMOST = 8
"""Calls of a task that are shown."""


def keep(name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Runs `work` in a task until it returns or the task is cancelled. After an error it starts again.

    `work` must be able to continue where it failed. It handles the errors that it expects itself: whatever
    reaches this task is logged as an error, since nobody waits for it.
    """
    return asyncio.get_running_loop().create_task(_keep(name, work), name=name)


async def _keep(name: str, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await work()
        except Exception:  # whatever it is: without this task the server would slowly stop working
            log.exception("a background task failed and starts again", task=name)
        await asyncio.sleep(RESTART_S * random.uniform(0.5, 1))


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancels the task, if there is one, and waits until it has ended. Ignores its result and error.

    If the caller is cancelled meanwhile, CancelledError is raised only after the task has ended. The task
    is cancelled again every AGAIN_S: up to Python 3.11 `asyncio.wait_for`, which libraries use, can lose a
    cancellation (gh-86296).
    """
    cancelled: asyncio.CancelledError | None = None
    while task is not None and not task.done():
        task.cancel()
        try:
            await asyncio.wait([task], timeout=AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def waiting() -> list[str]:
    """Returns for what all tasks of this process wait: their innermost calls, with the number of such tasks."""
    chains: Counter[str] = Counter()
    for task in asyncio.all_tasks():
        calls: list[str] = []
        awaited: Any = task.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            calls.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            awaited = awaited.cr_await
        chains[" > ".join(calls[-INNERMOST:])] += 1
    return [f"{count} x {chain}" for chain, count in chains.most_common()]


# --- child processes ---------------------------------------------------------------------------

_running: list[tuple[Process, str]] = []
"""Every process that may still run, with its folder. A server has at most one per worker, a relay and a mongod."""


async def start_process(
    command: Sequence[str], *, folder: str = "", env: Mapping[str, str] | None = None, **pipes: Any
) -> Process:
    """Starts a program. `folder`: a temporary folder that only this program needs. Raises OSError."""
    # A session of its own: Ctrl-C must reach only the server, which needs its children to finish its work.
    process = await create_subprocess_exec(*command, env=env, start_new_session=True, **pipes)
    _running[:] = [known for known in _running if known[0].returncode is None]
    _running.append((process, folder))
    return process


def kill_processes() -> None:
    """Kills all child processes, waits until they have ended, and removes their folders.

    May be called in a signal handler: it needs no event loop, which may be stuck.
    """
    for process, _ in _running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    for process, folder in _running:
        # It may have ended earlier, and the event loop has read its exit code.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, 0)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
