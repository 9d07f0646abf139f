"""Servers that are forks of a process which has imported everything. A start takes 0.1 s of CPU instead of 0.9 s."""

from __future__ import annotations

import asyncio
import gc
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

_forkserver = get_context("forkserver")
_forkserver.set_forkserver_preload(
    [
        *("chatserver.cli", "chatserver.commands.doctor", "chatserver.mongo.embedded"),
        *(
            "chatserver.processes.node",
            "chatserver.processes.relay",
            "chatserver.processes.workers",
        ),
        *("typer._adapters", "uvloop", __name__),
    ]
)


class Fork:
    """`python -m MODULE WORDS` in a fork, with those parts of asyncio's Process that the tests use.

    It runs the same code with the same environment and output, and has random numbers of its own.
    """

    def __init__(
        self, module: str, words: Sequence[str], env: Mapping[str, str], log: Path
    ) -> None:
        self._process = _forkserver.Process(
            target=_run, args=(module, words, env, log), daemon=True
        )
        # Not in a thread: multiprocessing does not expect two starts at a time.
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._process.sentinel, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._ended.set()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(module: str, words: Sequence[str], env: Mapping[str, str], log: Path) -> None:
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    gc.freeze()  # the server collects what it makes, not what it was forked with
    sys.argv[1:] = words
    runpy.run_module(module, run_name="__main__", alter_sys=True)
