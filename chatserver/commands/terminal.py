"""Shared by all commands: settings, output, signals and exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import NoReturn

import structlog
import typer
from rich.console import Console

from .. import development, tasks
from ..settings import BadSettings, Settings

log = structlog.get_logger(__name__)

SAME_S = 0.2
"""A signal that follows another one so closely is the same Ctrl-C: programs such as npm and timeout pass on the
signal that the terminal has sent to their children already."""
FAILED = 1
MISUSED = 2


def settings() -> Settings:
    """The settings of the environment. Prints a sentence and exits if they are not valid."""
    try:
        return development.keep_secrets(Settings.from_environment())
    except BadSettings as error:
        fail(str(error), MISUSED)


def note(sentence: str) -> None:
    """Print to stderr: stdout is for the result, which programs may read."""
    typer.echo(sentence, err=True)


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def console() -> Console:
    # Output is meant to be copied, so lines are not wrapped to the width of the window.
    return Console(soft_wrap=True, highlight=False)


def cancel_on_signal() -> None:
    """Cancel this task at each SIGINT and SIGTERM."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel(*_: object) -> None:
        if task:
            loop.call_soon_threadsafe(task.cancel)

    _on_signals(cancel)


class Stop:
    """The stop of a server. The first SIGINT or SIGTERM cancels this task, and a second one ends the process at once.

    A process that ends at once kills its children, too. What was acknowledged is journaled, so nothing is lost.
    `shown`: a person sees what the stop waits for; otherwise the log says it.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._began = 0.0
        _on_signals(self._signalled)

    def begin(self) -> None:
        """Cancel the task, once."""
        if self._task and not self._began:
            self._began = time.monotonic()
            self._loop.call_soon_threadsafe(self._task.cancel)

    def waits_for(self, what: str) -> None:
        if self._began and self._shown:
            note(f"Stopping: waiting for {what}. Press Ctrl-C again to stop at once.")
        elif self._began:
            log.info("stopping", waits_for=what)

    def _signalled(self, number: int, _: object) -> None:
        if not self._began:
            self.begin()
        elif time.monotonic() - self._began > SAME_S:
            # Not left to the event loop, which may be what the stop waits for.
            tasks.kill_processes()
            os._exit(128 + number)


def _on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def run(main: Coroutine[None, None, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
    else:
        import uvloop  # noqa: PLC0415  there is none for Windows

        uvloop.run(main)
