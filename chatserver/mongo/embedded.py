"""The server's own MongoDB, for a single node: a replica set of one member under DATA_DIR.

MongoDB has no password here, and every user of the machine can reach a loopback port. So it listens
on no port, only on a Unix socket that its own user can open. The replica set's configuration names
the socket by a relative path, so DATA_DIR may be moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.parse import quote

import structlog
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from .. import tasks
from .mongod import INSTEAD, EmbeddedFailed, cannot_run, find_mongod, last_error, with_server

if sys.platform != "win32":
    import fcntl

START_S = 120.0
"""The limit for a start. After a crash, mongod first replays the journal of a large database."""
STOP_S = 30.0
LOG_BYTES = 16 * 2**20
SOCKET = "mongod.sock"
SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux (unix(7))."""
ALREADY_INITIALIZED = 23

log = structlog.get_logger(__name__)


def url_of(data_dir: Path) -> str:
    """The connection string of the embedded MongoDB, valid while its server runs."""
    return f"mongodb://{quote(_socket(data_dir), safe='')}/?directConnection=true"


def _socket(data_dir: Path) -> str:
    path = _home(data_dir) / SOCKET
    # If the absolute path is too long, the path relative to the current directory may be short enough.
    for name in (str(path), os.path.relpath(path)):
        if len(os.fsencode(name)) <= SOCKET_PATH_BYTES:
            return name
    raise EmbeddedFailed(f"The path of DATA_DIR ({data_dir}) is too long for a Unix socket in it.")


def _home(data_dir: Path) -> Path:
    return data_dir.absolute() / "mongodb"


class EmbeddedMongo:
    """`async with EmbeddedMongo(data_dir) as url:` runs a writable primary until the block is left.

    A journaled write survives `kill -9` of any process. Only one server at a time can use a data_dir.
    A `mongod` that an earlier server left behind is stopped first; a `mongod` that dies is restarted.
    Raises EmbeddedFailed.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._home = _home(data_dir)
        self._log = self._home / "mongod.log"
        self._lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> str:
        mongod = find_mongod()
        url = url_of(self._data_dir)
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self._data_dir)
            self._log.write_bytes(b"")
            await self._launch(mongod, url)
        except BaseException as error:  # failed or cancelled: leave no mongod behind
            await self._stop()
            if isinstance(error, OSError):
                raise EmbeddedFailed(f"DATA_DIR cannot be used: {error}.") from None
            raise
        self._watcher = tasks.keep("restart mongod", partial(self._watch, mongod, url))
        return url

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _launch(self, mongod: Path, url: str) -> None:
        if orphan := self._orphan():
            log.warning("mongod.orphan", pid=orphan)
            await self._end_orphan(orphan)
        # In append mode, so that `_watch` can truncate the file while mongod writes to it.
        with self._log.open("ab") as output:
            self._process = await tasks.start_process(
                with_server([str(mongod), *self._arguments()]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._home,
            )
        try:
            async with asyncio.timeout(START_S):
                await self._accepts(self._process)
                await _make_primary(url)
        except TimeoutError:
            raise EmbeddedFailed(
                f"MongoDB was not ready after {START_S:.0f} s; see {self._log}. {INSTEAD}"
            ) from None

    def _arguments(self) -> list[str]:
        return [
            *("--dbpath", str(self._home)),
            *("--replSet", "chat"),
            *("--bind_ip", f"./{SOCKET}", "--nounixsocket", "--filePermissions", "0600"),
            *("--wiredTigerCacheSizeGB", _cache_gb(), "--oplogSize", "512"),
            # mongod logs a slow operation with its data, and so would log people's messages.
            *("--quiet", "--slowOpSampleRate", "0", "--noscripting"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # The open transaction of a killed server blocks its conversation until it is aborted.
            *("--setParameter", "transactionLifetimeLimitSeconds=2"),
        ]

    async def _accepts(self, process: asyncio.subprocess.Process) -> None:
        """Return when the socket accepts connections."""
        while True:
            if process.returncode is not None:
                raise EmbeddedFailed(cannot_run(process.returncode, last_error(self._log)))
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(_socket(self._data_dir))
                return
            await asyncio.sleep(0.02)

    async def _watch(self, mongod: Path, url: str) -> None:
        """Restart a mongod that dies, so that the server recovers by itself, and keep its log short."""
        process, pause = self._process, 0.5
        while process:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await process.wait()
            if process.returncode is None:
                pause = 0.5
                with contextlib.suppress(FileNotFoundError):
                    if self._log.stat().st_size > LOG_BYTES:
                        os.truncate(self._log, 0)
                continue
            log.error("mongod.died", returncode=process.returncode, again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)
            try:
                await self._launch(mongod, url)
            except (EmbeddedFailed, OSError) as error:
                log.error("mongod.failed", reason=str(error))
            process = self._process

    async def _stop(self) -> None:
        await tasks.end(self._watcher)
        if (process := self._process) and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._lock is not None:
            os.close(self._lock)

    def _orphan(self) -> int | None:
        """Returns the process id of a mongod that still has this data open, or None.

        mongod keeps its process id in mongod.lock. After a crash, another process may have that id.
        """
        try:
            pid = int((self._home / "mongod.lock").read_text())
            program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
            ours = os.path.samefile(f"/proc/{pid}/cwd", self._home)
        except (OSError, ValueError):
            return None
        return pid if ours and os.path.basename(program) == "mongod" else None

    async def _end_orphan(self, pid: int) -> None:
        for end, seconds in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, end)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self._orphan() == pid:  # noqa: ASYNC110  no event, since it is not our child
                        await asyncio.sleep(0.05)
                return
        raise EmbeddedFailed(
            f"A mongod (process {pid}) still has the data open and cannot be stopped."
        )


def _lock(data_dir: Path) -> int:
    """Lock data_dir until the returned descriptor is closed. It is closed however the process ends."""
    if sys.platform == "win32":
        raise EmbeddedFailed(f"An embedded MongoDB needs Linux or macOS. {INSTEAD}")
    file = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 32).decode().strip()
        os.close(file)
        raise EmbeddedFailed(
            f"Another server (process {holder or 'unknown'}) is using {data_dir}. Stop it, or set"
            " another DATA_DIR for this one. Several nodes need one MongoDB: set MONGO_URL."
        ) from None
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return file


async def _make_primary(url: str) -> None:
    """Initiate the replica set on the first start. Return when its member is a writable primary."""
    async with AsyncMongoClient[dict[str, object]](url, serverSelectionTimeoutMS=1000) as client:
        while True:
            try:
                hello = await client.admin.command("hello")
                if hello.get("isWritablePrimary"):
                    return
                if "setName" not in hello:
                    members = [{"_id": 0, "host": f"./{SOCKET}"}]
                    await client.admin.command(
                        "replSetInitiate", {"_id": "chat", "members": members}
                    )
            except OperationFailure as error:
                # mongod was still loading its configuration when `hello` showed none.
                if error.code != ALREADY_INITIALIZED:
                    raise EmbeddedFailed(f"MongoDB cannot start a replica set: {error}.") from None
            except PyMongoError as error:
                log.info("mongod.starting", reason=str(error))
            await asyncio.sleep(0.02)


def _cache_gb() -> str:
    """A quarter of the machine's memory, but at least 0.25 and at most 1 GB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{min(max(memory / 4, 0.25), 1.0):.2f}"
