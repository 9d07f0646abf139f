"""`chatserver tail`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client.commands import Target, Url, WsUrl, run


def tail(
    conversation: Annotated[str, typer.Option(help="The id of the conversation.")],
    user: Annotated[
        str,
        typer.Option(
            help="The participant to connect as. The command signs a token with AUTH_JWT_SECRET. While it"
            " runs, others see the user online."
        ),
    ],
    since: Annotated[
        int | None,
        typer.Option(min=0, help="Start after this rev. 0 is the start of the conversation."),
    ] = None,
    last: Annotated[
        int, typer.Option(min=0, max=200, help="Without --since: show this many messages first.")
    ] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help='Print a line {"event", "rev", "data"} per event.')
    ] = False,
    url: Url = None,
    ws_url: WsUrl = None,
) -> None:
    """Follow a conversation until Ctrl-C.

    Each change is shown once and in order, even if a server restarts or dies:
    missed changes are read, and shown as the current state of the message (messages:sync).
    To continue later, set --since to the highest rev that you have seen.
    Typing, presence and read marks are shown live only.
    """
    from .tail import Tail  # noqa: PLC0415  the other commands start faster without

    target = Target.of(url, ws_url)
    run(lambda: Tail(target, conversation, user, since, last, as_json).run())
