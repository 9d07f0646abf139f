"""What the commands have in common: their settings, what they print with, and how they fail."""

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
    """The settings of the environment; a sentence and the end when they are none."""
    try:
        return development.keep_secrets(Settings.from_environment())
    except BadSettings as error:
        fail(str(error), MISUSED)


def note(sentence: str) -> None:
    """Beside what the command prints for others to use."""
    typer.echo(sentence, err=True)


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def console() -> Console:
    # What is printed is there to be copied: no line may be broken to fit a window.
    return Console(soft_wrap=True, highlight=False)


def stop_on_signal(*, again: bool = False) -> Callable[[], None]:
    """Cancel this task at the first SIGINT or SIGTERM, or call of what is returned.

    Later ones cannot cut its clean stop short; with `again`, they cancel it as well.
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
