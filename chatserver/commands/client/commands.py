"""What the commands that use a running server have in common: where it is, who asks, and how they fail."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ... import development
from ...settings import BadSettings, Settings
from .. import terminal
from .failures import CommandFailed, RefusedByServer, Unreachable

TOKEN_LIFE = timedelta(hours=1)

Url = Annotated[
    str | None,
    typer.Option(
        "--url", help="REST and internal API of the server; else the settings' HOST and PORT."
    ),
]
WsUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--ws-url",
        help="Socket.IO of the server; else HOST and WS_PORT. Repeated: nodes to be tried in turn.",
    ),
]


@dataclass(frozen=True)
class Target:
    """A running server, with the settings by which it can be used."""

    url: str
    ws_urls: Sequence[str]
    settings: Settings
    elsewhere: bool
    """The settings are not those of where it is."""

    @classmethod
    def of(cls, url: str | None, ws_urls: Sequence[str] | None) -> Target:
        settings = terminal.settings()
        for address in (*([url] if url else []), *(ws_urls or [])):
            if urlsplit(address).scheme not in ("http", "https"):
                terminal.fail(f"{address!r} must begin with http:// or https://.", terminal.MISUSED)
        return cls(
            (url or development.address(settings.host, settings.port)).rstrip("/"),
            ws_urls or [development.address(settings.host, settings.ws_port)],
            settings,
            elsewhere=bool(url or ws_urls),
        )

    @property
    def away(self) -> str | None:
        """The first of its addresses that may be of another machine."""
        return next((url for url in (self.url, *self.ws_urls) if not _is_loopback(url)), None)

    @property
    def secret(self) -> str:
        return self.settings.internal_api_secret[0]

    def token(self, user: str, life: timedelta = TOKEN_LIFE) -> str:
        return development.token(self.settings, user, None, life)


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run until it is done or a signal comes; what fails is said in a sentence."""

    async def until_stopped() -> None:
        terminal.stop_on_signal(again=True)
        try:
            await main()
        except asyncio.CancelledError:
            # Only a signal cancels this task: the end was asked for.
            return

    try:
        terminal.run(until_stopped())
    except (
        BaseExceptionGroup,
        Unreachable,
        RefusedByServer,
        CommandFailed,
        BadSettings,
        BrokenPipeError,
    ) as error:
        causes = list(_causes(error))
        if any(isinstance(cause, BrokenPipeError) for cause in causes):
            # Whoever read it has enough. What is left in the buffer must not fail at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        sentences = [sentence for cause in causes if (sentence := _sentence(cause))]
        if len(sentences) < len(causes):
            raise
        misused = isinstance(causes[0], BadSettings)
        terminal.fail(sentences[0], terminal.MISUSED if misused else terminal.FAILED)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What failed at the same time, one by one."""
    if isinstance(error, BaseExceptionGroup):
        for nested in error.exceptions:
            yield from _causes(nested)
    else:
        yield error


def _sentence(error: BaseException) -> str | None:
    match error:
        case Unreachable():
            return f"No chatserver answers at {error}: start it, or name another with --url and --ws-url."
        case RefusedByServer():
            return _refusal(error)
        case CommandFailed() | BadSettings():
            return str(error)
    return None


def _refusal(refused: RefusedByServer) -> str:
    if refused.code == "UNAUTHENTICATED":
        return (
            "The server does not take this AUTH_JWT_SECRET or INTERNAL_API_SECRET: set those that it"
            " runs with (in development: run this where the server runs, with its DATA_DIR)."
        )
    if refused.code == "RATE_LIMITED":
        return (
            f"The server's limits are reached: {refused} Try again, or set RATE_LIMITS=off for it."
        )
    return f"The server refuses: {refused}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # By no other name: it may stand for this machine today.
        return host == "localhost"
