"""The internal API, as commands call it, and their output. The running server does the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .. import development, json_codec
from ..errors import ValidationFailed
from . import terminal

TIMEOUT_S = 30.0

AtServer = Annotated[
    str | None, typer.Option("--server", help="URL of the server. Default: HOST and PORT.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Server:
    def __init__(self, url: str | None) -> None:
        settings = terminal.settings()
        address = url or development.address(settings.host, settings.port)
        self.address = address.rstrip("/")
        self.headers = {"X-Internal-Secret": settings.internal_api_secret[0]}


async def ask(server: Server, method: str, path: str, **kwargs: Any) -> Any:
    """The decoded body of a successful response. Otherwise prints a sentence and exits."""
    import aiohttp  # noqa: PLC0415  the other commands start faster without

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    url = f"{server.address}/api{path}"
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=server.headers) as http,
            # A redirect would send the secret to another address.
            http.request(method, url, allow_redirects=False, **kwargs) as answer,
        ):
            code, body = answer.status, json_codec.decode(await answer.read())
        refused = body["error"] if code >= 400 else None
    except (aiohttp.ClientError, TimeoutError):
        terminal.fail(f"No chatserver answers at {server.address}: start it, or set --server.")
    except (ValidationFailed, TypeError, KeyError, ValueError):
        terminal.fail(f"The server at {server.address} is not a chatserver of this version.")
    if refused:
        _refused(server, refused)
    return body


def _refused(server: Server, error: Mapping[str, Any]) -> None:
    if error["code"] == "UNAUTHENTICATED":
        terminal.fail(
            f"The server at {server.address} does not accept this INTERNAL_API_SECRET: "
            "set the one that it uses."
        )
    sentences = [error["message"]]
    for field, reasons in error.get("details", {}).items():
        sentences.append(f"{field}: {' '.join(reasons)}")
    misused = error["code"] == "VALIDATION_FAILED"
    terminal.fail(" ".join(sentences), terminal.MISUSED if misused else terminal.FAILED)


# --- output ---------------------------------------------------------------------------------------


def new_table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def add_row(table: Table, *cells: str) -> None:
    # As Text, because rich would read words in brackets as markup.
    table.add_row(*map(Text, cells))


def show(table: Table, when_empty: str) -> None:
    if not table.row_count:
        typer.echo(when_empty)
        return
    console = terminal.console()
    # Never cut: at the width of a window, or of a pipe (80 columns), the ids would be hidden.
    console.width = 1000
    console.print(table)


def print_json(value: Any) -> None:
    typer.echo(json_codec.encode(value).decode())
