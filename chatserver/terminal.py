"""What the commands have in common: their settings, what they print with, and how they fail."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console

from . import development
from .settings import BadSettings, Settings

FAILED = 1
MISUSED = 2


def settings() -> Settings:
    """The settings of the environment; a sentence and the end when they are none."""
    try:
        return development.keep_secrets(Settings.from_environment())
    except BadSettings as error:
        fail(str(error), MISUSED)


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def console() -> Console:
    # What is printed is there to be copied: no line may be broken to fit a window.
    return Console(soft_wrap=True, highlight=False)
