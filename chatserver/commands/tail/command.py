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
            help="As whom: a participant. A token is made with AUTH_JWT_SECRET; while this runs the user"
            " is online, which others see."
        ),
    ],
    since: Annotated[
        int | None,
        typer.Option(min=0, help="Begin behind this rev; 0 is the beginning of the conversation."),
    ] = None,
    last: Annotated[
        int, typer.Option(min=0, max=200, help="Without --since: show so many messages first.")
    ] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help='A line {"event", "rev", "data"} each, for programs.')
    ] = False,
    url: Url = None,
    ws_url: WsUrl = None,
) -> None:
    """Follow what happens in a conversation, until Ctrl-C.

    Each change comes once and in order, also when a server restarts or dies:
    what was missed is read, and comes as the message is by then (messages:sync).
    To go on another day, give --since the highest rev that you have seen.
    Typing, presence and read marks are shown as they happen, not afterwards.
    """
    from .tail import Tail  # noqa: PLC0415  the other commands start faster without

    target = Target.of(url, ws_url)
    run(lambda: Tail(target, conversation, user, since, last, as_json).run())
