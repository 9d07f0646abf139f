"""The command line: `chatserver serve | token | doctor | version`."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from . import __version__, development, logs
from .settings import BadSettings, Settings

commands = typer.Typer(
    help="A self-hosted real-time chat server.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback's local variables would show secrets.
    pretty_exceptions_enable=False,
)

FAILED = 1
MISUSED = 2

REMEDIES = {
    errno.EADDRINUSE: "Set PORT or WS_PORT, or stop what listens there.",
    errno.EACCES: "Set PORT and WS_PORT to ports that this user may listen on.",
    errno.EADDRNOTAVAIL: "Set HOST to an address of this machine.",
}
"""What to do when the server cannot listen."""


def main() -> None:
    commands()


@commands.command()
def serve() -> None:
    """Run the server until SIGINT or SIGTERM, with the settings of the environment."""
    settings = _settings()
    logs.configure(settings.log_level, settings.log_format)
    try:
        _run(_serve(settings))
    except OSError as error:
        unknown_host = isinstance(error, socket.gaierror)
        remedy = REMEDIES.get(errno.EADDRNOTAVAIL if unknown_host else error.errno or 0)
        if remedy is None:
            raise
        _stop(f"{error.strerror}. {remedy}", FAILED)


@commands.command()
def token(
    user: Annotated[str, typer.Option(help="The user's id in the Master Service.")],
    name: Annotated[str | None, typer.Option(help="The name that others see.")] = None,
    expires: Annotated[str, typer.Option(help="30s, 15m, 1h, 7d.")] = "1h",
) -> None:
    """Print a token for a user, signed with the newest AUTH_JWT_SECRET."""
    try:
        typer.echo(development.token(_settings(), user, name, development.duration(expires)))
    except (BadSettings, ValueError) as error:
        _stop(str(error), MISUSED)


@commands.command()
def doctor() -> None:
    """Check the settings, the database, Redis and the ports; say what to do about each problem."""
    from .doctor import examine  # noqa: PLC0415  not needed to serve

    console, healthy = _console(), True
    for finding in asyncio.run(examine()):
        healthy = healthy and not finding.problem
        mark = "[red]PROBLEM[/red]" if finding.problem else "[green]OK[/green]     "
        console.print(mark, end="  ")
        console.print(f"{finding.subject}: {finding.says}", markup=False)
    raise typer.Exit(0 if healthy else FAILED)


@commands.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


async def _serve(settings: Settings) -> None:
    from .app import serve as serve_app  # noqa: PLC0415  the other commands start faster without
    from .doctor import words_of  # noqa: PLC0415
    from .embedded import EmbeddedMongo  # noqa: PLC0415
    from .mongo import PyMongoError  # noqa: PLC0415
    from .mongod import EmbeddedFailed  # noqa: PLC0415

    def started() -> None:
        if not settings.production:
            _console().print("\n".join(development.greeting(settings)), markup=False)

    _stop_on_signal()
    try:
        async with AsyncExitStack() as stack:
            url = settings.mongo_url
            if not url:
                url = await stack.enter_async_context(EmbeddedMongo(settings.data_dir))
            await serve_app(settings, mongo_url=url, started=started)
    except EmbeddedFailed as error:
        _stop(str(error), FAILED)
    except PyMongoError as error:
        _stop(f"MongoDB does not serve: {words_of(error)}. See chatserver doctor.", FAILED)
    except asyncio.CancelledError:
        # Only a signal cancels this task: the stop was asked for, and is done.
        return


def _stop_on_signal() -> None:
    """Cancel this task at the first SIGINT or SIGTERM; later ones cannot cut its clean stop short."""
    loop, task, asked = asyncio.get_running_loop(), asyncio.current_task(), False

    def stop(*_: object) -> None:
        nonlocal asked
        if task and not asked:
            asked = True
            loop.call_soon_threadsafe(task.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _run(main: Coroutine[None, None, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
    else:
        import uvloop  # noqa: PLC0415  there is none for Windows

        uvloop.run(main)


def _settings() -> Settings:
    try:
        return development.keep_secrets(Settings.from_environment())
    except BadSettings as error:
        _stop(str(error), MISUSED)


def _stop(sentence: str, code: int) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def _console() -> Console:
    # What is printed is there to be copied: no line may be broken to fit a window.
    return Console(soft_wrap=True, highlight=False)
