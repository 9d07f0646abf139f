"""Follows a conversation in the terminal."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
import typer

from ...clock import iso, now
from .. import terminal
from ..client.api import Api, as_user, segment
from ..client.commands import Target
from ..client.failures import CommandFailed, RefusedByServer, Unreachable
from ..client.reconnecting_socket import ReconnectingSocket
from ..client.socket import Socket
from .follower import PRESENCE, REMOVED, Follower, Happened
from .lines import Lines
from .screen import as_json as json_line


class Tail:
    def __init__(
        self,
        target: Target,
        conversation: str,
        user: str,
        since: int | None,
        last: int,
        as_json: bool,
    ) -> None:
        self._target = target
        self._user = user
        self._as_json = as_json
        self._participants: set[str] = set()
        self._api: Api
        self._lines: Lines
        self._console = terminal.console()
        self._end = asyncio.Event()
        self._follower = Follower(conversation, since, last, self._tell)
        self._removed = self._was_up = False

    async def run(self) -> None:
        """Follow until cancelled or until the user is removed, which raises CommandFailed.

        Raises Unreachable, RefusedByServer; BrokenPipeError when the reader closes the pipe.
        """
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            self._api = Api(http, self._target.url, as_user(self._token))
            conversation = await self._look()
            self._participants = _participants(conversation)
            self._lines = Lines(conversation)
            connection = ReconnectingSocket(
                http,
                self._target.ws_urls,
                self._token,
                hear=self._follower.hear,
                came=self._came,
                lost=self._lost,
            )
            running = group.create_task(connection.run())
            await self._end.wait()
            running.cancel()
        if self._removed:
            raise CommandFailed(f"{self._user} is no longer in this conversation.")

    def _token(self) -> str:
        return self._target.token(self._user)

    async def _look(self) -> Any:
        """The conversation. Raises Unreachable, RefusedByServer, CommandFailed."""
        try:
            return await self._api.ask("GET", f"/conversations/{segment(self._follower.id)}")
        except RefusedByServer as refused:
            if refused.code != "NOT_FOUND":
                raise
            raise CommandFailed(
                f"{self._user} is not in conversation {self._follower.id}: name a participant with --user."
            ) from None

    async def _came(self, socket: Socket) -> None:
        if self._was_up:
            terminal.note("Reconnected.")
            await self._look_again()
        elif sys.stderr.isatty():
            terminal.note(f"Following the conversation as {self._user}; Ctrl-C stops it.")
        self._was_up = True
        await self._follower.catch_up(socket)

    async def _look_again(self) -> None:
        """Show the participants that were added or removed while disconnected. These changes have no rev, so
        catch-up does not find them."""
        try:
            now_in = _participants(await self._look())
        except Unreachable:
            terminal.note("(REST does not answer: missed changes of participants are not shown.)")
            return
        before = self._participants
        for event, who in (("added", now_in - before), ("removed", before - now_in)):
            for user in sorted(who):
                change = {
                    "conversationId": self._follower.id,
                    "userId": user,
                    "timestamp": iso(now()),
                }
                self._tell(Happened(f"participant:{event}", change))

    def _lost(self) -> None:
        self._follower.lost()
        terminal.note("Connection lost. Reconnecting …")

    def _tell(self, happened: Happened) -> None:
        event, data = happened.event, happened.data
        if event in PRESENCE and data["userId"] not in self._participants:
            return
        if event in ("participant:added", "participant:removed"):
            is_in = event == "participant:added"
            if (data["userId"] in self._participants) is is_in:
                return  # already shown after the reconnection
            (self._participants.add if is_in else self._participants.discard)(data["userId"])
        self._show(happened)
        if event == REMOVED:
            self._removed = True
            self._end.set()

    def _show(self, happened: Happened) -> None:
        if not self._as_json:
            with self._console.capture() as shown:
                self._console.print(self._lines.line(happened))
            text = shown.get()
        else:
            line: dict[str, Any] = {"event": happened.event, "rev": happened.rev}
            text = json_line({**line, "data": happened.data}) + "\n"
        # JSON is always UTF-8. In a line for people, letters that the terminal's encoding lacks are replaced.
        typer.echo(text.encode() if self._as_json else text, nl=False)


def _participants(conversation: Any) -> set[str]:
    return {participant["userId"] for participant in conversation["participants"]}
