"""Shared by all commands: settings, output, signals and exit codes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import NoReturn

import typer
from rich.console import Console

from .. import development
from ..settings import BadSettings, Settings

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


def stop_on_signal(*, again: bool = False) -> Callable[[], None]:
    """Cancel this task at the first SIGINT, SIGTERM or call of the returned function.

    Later ones are ignored, so that they cannot interrupt a clean stop. With `again`, each one cancels.
    """
    loop, task, asked = asyncio.get_running_loop(), asyncio.current_task(), False

    def stop(*_: object) -> None:
        nonlocal asked
        if task and not task.done() and (again or not asked):
            asked = True
            loop.call_soon_threadsafe(task.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stop


def run(main: Coroutine[None, None, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
    else:
        import uvloop  # noqa: PLC0415  there is none for Windows

        uvloop.run(main)
