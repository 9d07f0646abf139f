"""A child process of the server (the relay, a worker): restarted when it exits, stopped with the server.

The child's standard input is a pipe that only its parent holds. When the parent dies, even by kill -9,
the child reads the end of that pipe and exits.
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

from .. import tasks

log = structlog.get_logger(__name__)

PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
STEADY_S = 60.0
"""After a child has lived this long, the pause before its restart is PAUSE_S again."""
STOP_S = 12.0
ORPHAN_S = 1.5
"""How long a child may outlive the server."""


class Child:
    """Runs `chatserver COMMAND --metrics-socket SOCKET` from `start` to `stop`.

    The child inherits our output and our environment, to which `env` is added. It serves its metrics on
    `metrics_socket`, or else on a socket in a temporary folder; only our user can open it. A child that
    cannot run is logged and tried again, and nothing is raised. `stop_s`: seconds that it has to stop.
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

    @property
    def running(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        self._task = tasks.keep(f"restart {self._name}", self._keep)

    async def stop(self) -> None:
        """Terminates the child, and kills it after `stop_s`. Returns shortly after that at the latest."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def exposition(self) -> bytes:
        """Returns the child's metrics, or nothing while it has no socket.

        Raises OSError and aiohttp.ClientError.
        """
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
        """Runs the child once. Returns its exit code, or the reason why it did not start."""
        try:
            with self._folder() as folder:
                self._socket = self._metrics_socket or Path(folder) / self._command
                # Left by an earlier child that was killed. It must not be taken for this child's.
                self._socket.unlink(missing_ok=True)
                process = await tasks.start_process(
                    [
                        *(sys.executable, *_no_other_code(), "-m", "chatserver", self._command),
                        *("--metrics-socket", str(self._socket)),
                    ],
                    folder=str(self._socket.parent),
                    env={**os.environ, **self._env},
                    stdin=PIPE,
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


async def stop_relay(relay: Child, waits_for: Callable[[str], None]) -> None:
    if relay.running:
        waits_for(f"the relay to finish its deliveries ({STOP_S:g} s at most)")
    await relay.stop()


async def exposition(metrics_socket: Path) -> bytes:
    """Returns the metrics of the child with that socket. Raises OSError and aiohttp.ClientError."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(metrics_socket))) as http,
        http.get("http://child/metrics", raise_for_status=True) as answer,
    ):
        return await answer.read()


def _no_other_code() -> list[str]:
    """Options that keep `-m` from importing a checkout in the current folder, unless we import from there too."""
    return [] if os.getcwd() in sys.path or "" in sys.path else ["-P"]


async def _end(process: asyncio.subprocess.Process, stop_s: float) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(stop_s):
            await process.wait()
    except TimeoutError:
        log.error("child.killed", pid=process.pid)
        process.kill()
        await process.wait()


def end_with_server(metrics_socket: Path, stop: Callable[[], None]) -> None:
    """In the child: calls `stop` when the server has died, and kills this process ORPHAN_S later."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def read() -> None:
        if os.read(stdin, 4096):
            return
        loop.remove_reader(stdin)
        # The kernel kills the process, so neither a stuck loop nor a missing database can delay it.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, ORPHAN_S)
        stop()
        # The parent, which otherwise removes these, is dead.
        metrics_socket.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            metrics_socket.parent.rmdir()

    loop.add_reader(stdin, read)
