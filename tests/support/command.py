"""Runs the command `chatserver`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from .patience import PATIENCE_S
from .servers import ROOT


@dataclass
class Ran:
    code: int | None
    out: str
    err: str


class Running:
    """A running command. Its lines are read as they arrive."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out: list[str] = []

    async def line(self, within: float = PATIENCE_S) -> str:
        assert self.process.stdout
        line = await asyncio.wait_for(self.process.stdout.readline(), within)
        assert line, f"it has ended: {await self._errors()}"
        self.out.append(line.decode().rstrip("\n"))
        return self.out[-1]

    async def says(self, text: str) -> str:
        """Waits for the next line that contains this text, and returns it."""
        while text not in (line := await self.line()):
            pass
        return line

    async def interrupt(self, number: int = signal.SIGINT) -> Ran:
        self.process.send_signal(number)
        return await self.end()

    async def end(self, within: float = PATIENCE_S) -> Ran:
        out, err = await asyncio.wait_for(self.process.communicate(), within)
        self.out += out.decode().splitlines()
        assert b"Traceback" not in err, err.decode()
        return Ran(self.process.returncode, "\n".join(self.out), err.decode())

    async def _errors(self) -> str:
        assert self.process.stderr
        return (await self.process.stderr.read()).decode()


@asynccontextmanager
async def begin(*words: str, **env: str) -> AsyncIterator[Running]:
    """Starts `chatserver WORDS` with only these settings. It is killed at the end if it still runs."""
    process = await _start(words, env)
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(*words: str, **env: str) -> Ran:
    """Runs `chatserver WORDS` with only these settings."""
    process = await _start(words, env)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert b"Traceback" not in err, err.decode()
    return Ran(process.returncode, out.decode(), err.decode())


async def run_in_terminal(columns: int, *words: str, **env: str) -> str:
    """Runs `chatserver WORDS` in a terminal. Returns its output there, including control sequences."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = await _start(words, {"TERM": "xterm", **env}, theirs)
    finally:
        os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
        # The end of a terminal is an OSError, when the other side is closed.
        while more := await asyncio.to_thread(terminal.read, 65536):
            shown += more
    assert await asyncio.wait_for(process.wait(), 20) == 0, shown.decode()
    return shown.decode()


async def _start(
    words: tuple[str, ...], env: dict[str, str], shown: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "chatserver", *words),
        cwd=ROOT,
        env={**clean, **env},
        stdout=shown,
        stderr=shown,
        limit=1024 * 1024,
    )
