"""A process of ours beside the server, or under it: started, started again when it ends, and ended with it.

The child's standard input is a pipe that only its parent holds: however the parent ends, a kill -9
included, the child reads its end there, and goes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory

import aiohttp
import structlog

log = structlog.get_logger(__name__)

PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
STEADY_S = 60.0
"""What lived this long is started again without much of a pause."""
STOP_S = 12.0
ORPHAN_S = 1.5
"""How long a child may go on without the server."""


class Child:
    """`chatserver COMMAND --metrics-socket SOCKET`, from `start` until `stop`; `env` is added to ours.

    The child shares our output, and serves its metrics on the socket, which only our user can open:
    `metrics_socket`, or a socket in a folder of its own. A child that cannot run is logged, and tried
    again: nothing here raises because of it. When it is asked to end it has `stop_s` to do so.
    """

    def __init__(
        self,
        command: str,
        env: Mapping[str, str],
        *,
        metrics_socket: Path | None = None,
        stop_s: float = STOP_S,
    ) -> None:
        self._command = command
        self._env = env
        self._metrics_socket = metrics_socket
        self._name = metrics_socket.name if metrics_socket else command
        self._stop_s = stop_s
        self._socket: Path | None = metrics_socket
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask the child to end, wait, and at last insist; returns within `stop_s` and a little."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def exposition(self) -> bytes:
        """The child's metrics; nothing while it has none. Raises OSError and aiohttp.ClientError."""
        if self._socket is None or not self._socket.exists():
            return b""
        return await exposition(self._socket)

    async def _keep(self) -> None:
        pause = PAUSE_S
        while True:
            began = time.monotonic()
            outcome = await self._live()
            if time.monotonic() - began > STEADY_S:
                pause = PAUSE_S
            log.error("child.ended", child=self._name, **outcome, again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _live(self) -> dict[str, object]:
        """One life of the child: how it ended, or why it did not begin."""
        try:
            with self._folder() as folder:
                self._socket = self._metrics_socket or Path(folder) / self._command
                # Of an earlier life that was killed; nobody may take it for this one's.
                self._socket.unlink(missing_ok=True)
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *_no_other_code(), "-m", "chatserver", self._command),
                    *("--metrics-socket", str(self._socket)),
                    env={**os.environ, **self._env},
                    stdin=PIPE,
                    # A terminal's Ctrl-C is for the server alone, which ends the child in its turn.
                    start_new_session=True,
                )
                log.info("child.started", child=self._name, pid=process.pid)
                try:
                    return {"code": await process.wait()}
                finally:
                    await _end(process, self._stop_s)
        except OSError as error:
            return {"reason": str(error)}

    def _folder(self) -> contextlib.AbstractContextManager[str]:
        if self._metrics_socket:
            return contextlib.nullcontext("")
        return TemporaryDirectory(prefix="chatserver-")


async def exposition(metrics_socket: Path) -> bytes:
    """The metrics of the child with that socket. Raises OSError and aiohttp.ClientError."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(metrics_socket))) as http,
        http.get("http://child/metrics", raise_for_status=True) as answer,
    ):
        return await answer.read()


def _no_other_code() -> list[str]:
    """`-m` would look in the current folder first, where we did not look and a checkout may lie."""
    return [] if os.getcwd() in sys.path or "" in sys.path else ["-P"]


async def _end(process: asyncio.subprocess.Process, stop_s: float) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), stop_s)
    except TimeoutError:
        log.error("child.killed", pid=process.pid)
        process.kill()
        await process.wait()


def end_with_server(metrics_socket: Path, stop: Callable[[], None]) -> None:
    """In the child: call `stop` when the server is gone, and be gone soon after whatever it does."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if os.read(stdin, 4096):
            return
        loop.remove_reader(stdin)
        # From outside of Python: neither a stuck loop nor an absent database can hold it up.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, ORPHAN_S)
        stop()
        # Nobody else is left to clear it away.
        metrics_socket.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            metrics_socket.parent.rmdir()

    loop.add_reader(stdin, read)
