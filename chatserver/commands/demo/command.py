"""`chatserver demo`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from ...development import PEOPLE, Person
from .. import terminal
from ..client.commands import Target, Url, WsUrl, run
from .cast import ScriptedConversation

SIGN_IN = timedelta(days=7)


def demo(
    messages: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many messages. Default: never.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Stop when each scene has been played once.")
    ] = False,
    pace: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Speed. 2 is twice as fast as real people.")
    ] = 1.0,
    listeners: Annotated[
        int,
        typer.Option(min=0, max=100_000, help="More members of the channel, who never connect."),
    ] = 5000,
    url: Url = None,
    ws_url: WsUrl = None,
    sure: Annotated[
        bool,
        typer.Option(
            "--yes-fill-this-server",
            help="Run even if ENV is production or the server is not on this machine.",
        ),
    ] = False,
) -> None:
    """Fill a development server with people who chat, until Ctrl-C.

    Eight people talk in six conversations. They type, reply, correct themselves,
    react, read, and go online and offline. The channel has 5,000 more members,
    so that it is a large conversation. Prints a token to sign in as each of them.

    Each run uses the same people and conversations and creates no duplicates.
    """
    target = Target.of(url, ws_url)
    if target.settings.production and not sure:
        terminal.fail(
            "ENV is production: the demo would add its people to your users. Use"
            " --yes-fill-this-server if that is intended.",
            terminal.MISUSED,
        )
    if target.away and not sure:
        terminal.fail(
            f"{target.away} is not on this machine: use --yes-fill-this-server to add the demo's people"
            " to that server.",
            terminal.MISUSED,
        )
    run(lambda: _play(target, messages, once, pace, listeners))


async def _play(
    target: Target, messages: int | None, once: bool, pace: float, listeners: int
) -> None:
    import aiohttp  # noqa: PLC0415  the other commands start faster without

    from ..client.api import Api, as_master  # noqa: PLC0415
    from .pace import Pace  # noqa: PLC0415
    from .play import Play  # noqa: PLC0415
    from .scenery import set_up  # noqa: PLC0415

    # Before anything is created: there may be no secret to sign with.
    signing_in = [(person, target.token(person.id, SIGN_IN)) for person in PEOPLE]
    async with aiohttp.ClientSession() as http:
        api = Api(http, target.url, as_master(target.secret))
        conversations = await set_up(api, listeners)
        typer.echo(f"Socket.IO   {target.ws_urls[0]}\nREST        {target.url}/api")
        if target.settings.playground and not target.elsewhere:
            typer.echo(f"Playground  {target.url}/playground")
        typer.echo("\nTo sign in as one of the people, use their token (valid for 7 days):")
        for person, token in signing_in:
            typer.echo(f"{person.id:8}  {person.name:16}  {token}")
        typer.echo("\nThey are talking in these conversations; Ctrl-C stops the demo:")
        for key, conversation_id in conversations.items():
            typer.echo(f"{key:12}  {conversation_id}")
        typer.echo("")
        play = Play(Pace(pace), messages=messages, once=once, on_message=_show, note=terminal.note)
        await play.run(http, target, api, conversations)
    typer.echo("Finished.")


def _show(scripted: ScriptedConversation, person: Person, text: str) -> None:
    typer.echo(f"{scripted.name or scripted.key:12}  {person.name:16}  {text}")
