"""A process pinned to a CPU, and the kernel's accounting of it and its children."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]
START_S = 60
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024
STOP_S = 20
UTIME, STIME, RSS = 11, 12, 21
"""Fields of /proc/PID/stat (proc(5)), counted from the field after the name."""


class Process:
    """Runs `command` on `cpu` until `stop`. Its output goes to `log`; if `talks`, stdout answers `ask`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cpu: int,
        log: Path,
        env: dict[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        self.log = log
        # If this script is killed, the kernel kills the process. Ctrl-C reaches only this script.
        pinned = ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(cpu), *command]
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                pinned,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                env={**os.environ, **(env or {})},
                text=True,
                start_new_session=True,
            )

    def tell(self, line: str) -> None:
        stdin = cast(IO[str], self.popen.stdin)
        stdin.write(line + "\n")
        stdin.flush()

    def ask(self, line: str) -> str:
        self.tell(line)
        if not (answer := cast(IO[str], self.popen.stdout).readline()):
            raise self.failure(f"ended during {line!r}")
        return answer

    def failure(self, what: str) -> SystemExit:
        output = self.log.read_text(errors="replace")[-2000:]
        return SystemExit(f"{self.log.stem} {what}. Its last output:\n{output}")

    def cpu_seconds(self, word: str = "") -> float:
        """Returns the user and system time of the process tree, in steps of a clock tick (10 ms).

        With `word`: only of the processes that have the word in their command line.
        """
        pids = self.having(word) if word else self._tree()
        return sum(int(of[UTIME]) + int(of[STIME]) for of in _stats(pids)) / TICKS_PER_S

    def having(self, word: str) -> list[int]:
        """Returns the processes of the tree that have a word in their command line."""
        return [pid for pid in self._tree() if word in _words(pid)]

    def memory_kb(self) -> float:
        """Returns the resident memory of the process tree."""
        return sum(int(of[RSS]) for of in _stats(self._tree())) * PAGE_KB

    def _tree(self) -> list[int]:
        pids = [self.popen.pid]
        for pid in pids:
            with suppress(FileNotFoundError, ProcessLookupError):
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    pids += map(int, children.read_text().split())
        return pids

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            for pid in self._tree():
                os.kill(pid, 9)
            self.popen.wait()


def until(ready: Callable[[], bool], process: Process) -> None:
    end = time.monotonic() + START_S
    while not ready():
        if process.popen.poll() is not None or time.monotonic() > end:
            raise process.failure("did not start")
        time.sleep(0.1)


def _stats(pids: Iterable[int]) -> Iterator[list[str]]:
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name is in parentheses and can contain parentheses, so split at the last one.
            yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
