"""Child processes: Ctrl-C in a terminal does not reach them, and none outlives a server that ends at once."""

from __future__ import annotations

import contextlib
import os
import shutil
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import Mapping, Sequence
from typing import Any

_running: list[tuple[Process, str]] = []
"""Every process that may still run, with its folder. A server has at most one per worker, a relay and a mongod."""


async def start(
    command: Sequence[str], *, folder: str = "", env: Mapping[str, str] | None = None, **pipes: Any
) -> Process:
    """Starts a program. `folder`: a temporary folder that only this program needs. Raises OSError."""
    # A session of its own: Ctrl-C must reach only the server, which needs its children to finish its work.
    process = await create_subprocess_exec(*command, env=env, start_new_session=True, **pipes)
    _running[:] = [known for known in _running if known[0].returncode is None]
    _running.append((process, folder))
    return process


def kill_all() -> None:
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
