"""The command line: `chatserver serve | relay | migrate | webhooks | jobs | token | doctor | demo | tail | load | version`."""

from __future__ import annotations

import asyncio
import errno
import io
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from . import __version__, development
from .commands import terminal, webhooks
from .commands.demo.command import demo
from .commands.jobs import jobs
from .commands.load.command import load
from .commands.tail.command import tail
from .observability import logs
from .settings import BadSettings, Settings

commands = typer.Typer(
    help="A self-hosted real-time chat server.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback's local variables would show secrets.
    pretty_exceptions_enable=False,
)
commands.add_typer(webhooks.commands, name="webhooks")

REMEDIES = {
    errno.EADDRINUSE: "Set PORT or WS_PORT to a free port, or stop the program that uses this one.",
    errno.EACCES: "Set PORT and WS_PORT to ports that this user may listen on.",
    errno.EADDRNOTAVAIL: "Set HOST to an address of this machine.",
}
"""Advice to print when the server cannot listen, by errno."""


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Replace characters that the terminal cannot encode, instead of failing.
            stream.reconfigure(errors="replace")
    commands()


@commands.command()
def serve(
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Processes that share the ports. More than one serves WebSockets only."
        ),
    ] = 1,
) -> None:
    """Run the server until SIGINT or SIGTERM. Settings are read from the environment."""
    settings = terminal.settings()
    logs.configure(settings.log_level, settings.log_format)
    if workers > 1:
        if sys.platform != "linux":
            terminal.fail(
                "--workers needs Linux. Run several servers on different ports behind a load balancer"
                " instead.",
                terminal.MISUSED,
            )
        if not settings.redis_url:
            terminal.fail(
                "REDIS_URL is missing: each worker is a node, and nodes communicate over Redis.",
                terminal.MISUSED,
            )
    _listen(_serve(settings, workers))


@commands.command(hidden=True)
def worker(metrics_socket: Annotated[Path, typer.Option()]) -> None:
    """Run one of the processes of `serve --workers`."""
    settings = terminal.settings()
    logs.configure(settings.log_level, settings.log_format, process=metrics_socket.name)
    _listen(_worker(settings, metrics_socket))


@commands.command()
def relay(metrics_socket: Annotated[Path | None, typer.Option(hidden=True)] = None) -> None:
    """Deliver webhooks until SIGINT or SIGTERM. `serve` starts a relay itself unless WEBHOOK_RELAY=off.

    Health and metrics are served on HOST and PORT.
    """
    settings = terminal.settings()
    logs.configure(settings.log_level, settings.log_format, process="relay")
    if not settings.mongo_url:
        terminal.fail(
            "MONGO_URL is missing. The embedded MongoDB works only with `chatserver serve`, which runs"
            " a relay itself.",
            terminal.MISUSED,
        )
    if not settings.webhooks:
        terminal.fail(
            "No webhook endpoint is configured: set WEBHOOK_URL or WEBHOOKS_FILE.", terminal.MISUSED
        )
    _listen(_relay(settings, metrics_socket))


@commands.command()
def migrate() -> None:
    """Upgrade the database to the schema of this version, as `serve` does when it starts."""
    settings = terminal.settings()
    logs.configure("warning", settings.log_format)
    asyncio.run(_migrate(settings))


@commands.command()
def token(
    user: Annotated[str, typer.Option(help="The user's id in the Master Service.")],
    name: Annotated[str | None, typer.Option(help="The display name.")] = None,
    expires: Annotated[str, typer.Option(help="The token's lifetime: 30s, 15m, 1h, 7d.")] = "1h",
) -> None:
    """Print a token for a user, signed with the newest AUTH_JWT_SECRET."""
    try:
        typer.echo(
            development.token(terminal.settings(), user, name, development.duration(expires))
        )
    except (BadSettings, ValueError) as error:
        terminal.fail(str(error), terminal.MISUSED)


@commands.command()
def doctor() -> None:
    """Check the settings, the database, Redis and the ports, and suggest a fix for each problem."""
    from .commands.doctor import examine  # noqa: PLC0415  not needed to serve

    console, healthy = terminal.console(), True
    for finding in asyncio.run(examine()):
        healthy = healthy and not finding.problem
        mark = "[red]PROBLEM[/red]" if finding.problem else "[green]OK[/green]     "
        console.print(mark, end="  ")
        console.print(f"{finding.subject}: {finding.detail}", markup=False)
    raise typer.Exit(0 if healthy else terminal.FAILED)


@commands.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


for command in (jobs, demo, tail, load):
    commands.command()(command)


async def _serve(settings: Settings, workers: int) -> None:
    from .processes.node import serve as serve_app  # noqa: PLC0415  the other commands start faster without
    from .processes.workers import serve_workers  # noqa: PLC0415

    def started() -> None:
        if not settings.production:
            lines = development.greeting(settings, polling=workers == 1)
            terminal.console().print("\n".join(lines), markup=False)

    stop = _stop(settings)
    with _explained():
        async with _mongo_url(settings, stop) as url:
            if workers > 1:
                await serve_workers(
                    settings, workers, mongo_url=url, started=started, waits_for=stop.waits_for
                )
            else:
                await serve_app(settings, mongo_url=url, started=started, waits_for=stop.waits_for)


async def _worker(settings: Settings, metrics_socket: Path) -> None:
    from .processes.child import end_with_server  # noqa: PLC0415
    from .processes.node import serve as serve_app  # noqa: PLC0415

    stop = terminal.Stop(shown=False)
    end_with_server(metrics_socket, stop.begin)
    with _explained():
        await serve_app(
            settings,
            mongo_url=settings.mongo_url,
            started=lambda: None,
            waits_for=stop.waits_for,
            metrics_socket=metrics_socket,
        )


async def _relay(settings: Settings, metrics_socket: Path | None) -> None:
    from .processes.child import end_with_server  # noqa: PLC0415
    from .processes.relay import relay as run_relay  # noqa: PLC0415

    stop = terminal.Stop(shown=False) if metrics_socket else _stop(settings)
    if metrics_socket:
        end_with_server(metrics_socket, stop.begin)
    with _explained():
        await run_relay(
            settings,
            mongo_url=settings.mongo_url,
            metrics_socket=metrics_socket,
            waits_for=stop.waits_for,
        )


async def _migrate(settings: Settings) -> None:
    from .mongo import Mongo  # noqa: PLC0415
    from .mongo.schema import Migration, version_of  # noqa: PLC0415

    stop = _stop(settings)
    with _explained():
        async with _mongo_url(settings, stop) as url, AsyncExitStack() as stack:
            mongo = Mongo(url, settings.mongo_database)
            stack.push_async_callback(mongo.close)
            await Migration(mongo, terminal.note).run()
            version = await version_of(mongo)
            typer.echo(f"The database {settings.mongo_database} has schema {version}.")
            return
    terminal.fail("Interrupted. The next run, or the next start of a server, continues.")


def _stop(settings: Settings) -> terminal.Stop:
    return terminal.Stop(shown=not settings.production or sys.stderr.isatty())


@asynccontextmanager
async def _mongo_url(settings: Settings, stop: terminal.Stop) -> AsyncIterator[str]:
    """Runs the embedded MongoDB if there is no other."""
    from .mongo.embedded import STOP_S, EmbeddedMongo  # noqa: PLC0415

    if settings.mongo_url:
        yield settings.mongo_url
        return
    async with EmbeddedMongo(settings.data_dir) as url:
        try:
            yield url
        finally:
            stop.waits_for(f"MongoDB to close its files ({STOP_S:g} s at most)")


@contextmanager
def _explained() -> Iterator[None]:
    """If the block cannot start, prints a sentence and exits. Only a signal cancels it, which is a normal end."""
    from .commands.doctor import words_of  # noqa: PLC0415
    from .mongo import PyMongoError  # noqa: PLC0415
    from .mongo.mongod import EmbeddedFailed  # noqa: PLC0415
    from .mongo.schema import NewerSchema  # noqa: PLC0415

    try:
        yield
    except (EmbeddedFailed, NewerSchema) as error:
        terminal.fail(str(error), terminal.FAILED)
    except PyMongoError as error:
        terminal.fail(
            f"MongoDB is not available: {words_of(error)}. Run chatserver doctor for advice.",
            terminal.FAILED,
        )
    except asyncio.CancelledError:
        return


def _listen(main: Coroutine[None, None, None]) -> None:
    """Runs `main`. If it cannot listen, prints advice and exits."""
    try:
        terminal.run(main)
    except OSError as error:
        unknown_host = isinstance(error, socket.gaierror)
        remedy = REMEDIES.get(errno.EADDRNOTAVAIL if unknown_host else error.errno or 0)
        if remedy is None:
            raise
        terminal.fail(f"{error.strerror}. {remedy}", terminal.FAILED)
