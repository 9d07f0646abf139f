"""Shared by the commands that use a running server: its address, its secrets, and their error messages."""

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
    typer.Option("--url", help="Base URL of REST and the internal API. Default: HOST and PORT."),
]
WsUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--ws-url",
        help="Base URL of Socket.IO. Default: HOST and WS_PORT. Repeat it to try several nodes in turn.",
    ),
]


@dataclass(frozen=True)
class Target:
    """A running server, and the settings with which to use it."""

    url: str
    ws_urls: Sequence[str]
    settings: Settings
    elsewhere: bool
    """The address was given as an option, so the settings may not be those of the server."""

    @classmethod
    def of(cls, url: str | None, ws_urls: Sequence[str] | None) -> Target:
        settings = terminal.settings()
        for address in (*([url] if url else []), *(ws_urls or [])):
            if urlsplit(address).scheme not in ("http", "https"):
                terminal.fail(f"{address!r} must start with http:// or https://.", terminal.MISUSED)
        return cls(
            (url or development.address(settings.host, settings.port)).rstrip("/"),
            ws_urls or [development.address(settings.host, settings.ws_port)],
            settings,
            elsewhere=bool(url or ws_urls),
        )

    @property
    def away(self) -> str | None:
        """The first address that may be on another machine; None if all are loopback addresses."""
        return next((url for url in (self.url, *self.ws_urls) if not _is_loopback(url)), None)

    @property
    def secret(self) -> str:
        return self.settings.internal_api_secret[0]

    def token(self, user: str, life: timedelta = TOKEN_LIFE) -> str:
        return development.token(self.settings, user, None, life)


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run `main` until it returns or a signal arrives. Expected errors are printed as one sentence."""

    async def until_stopped() -> None:
        terminal.cancel_on_signal()
        try:
            await main()
        except asyncio.CancelledError:
            # Only a signal cancels this task, so this is a regular end.
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
            # The reader closed the pipe (`| head`). Flushing the rest at exit must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        sentences = [sentence for cause in causes if (sentence := _sentence(cause))]
        if len(sentences) < len(causes):
            raise
        misused = isinstance(causes[0], BadSettings)
        terminal.fail(sentences[0], terminal.MISUSED if misused else terminal.FAILED)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in an exception group, at any depth."""
    if isinstance(error, BaseExceptionGroup):
        for nested in error.exceptions:
            yield from _causes(nested)
    else:
        yield error


def _sentence(error: BaseException) -> str | None:
    match error:
        case Unreachable():
            return f"No chatserver answers at {error}: start it, or set --url and --ws-url."
        case RefusedByServer():
            return _refusal(error)
        case CommandFailed() | BadSettings():
            return str(error)
    return None


def _refusal(refused: RefusedByServer) -> str:
    if refused.code == "UNAUTHENTICATED":
        return (
            "The server does not accept this AUTH_JWT_SECRET or INTERNAL_API_SECRET: set the ones that"
            " it uses (in development: run this on the server's machine, with its DATA_DIR)."
        )
    if refused.code == "RATE_LIMITED":
        return f"Rate limit of the server: {refused} Try again, or start the server with RATE_LIMITS=off."
    return f"The server refused the request: {refused}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # No other name: the address of a name can change.
        return host == "localhost"
