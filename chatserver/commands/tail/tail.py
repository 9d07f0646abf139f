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
from .participants import Participants
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
        self._participants = Participants()
        self._learning: asyncio.Task[bool] | None = None
        self._api: Api
        self._group: asyncio.TaskGroup
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
            self._group = group
            self._api = Api(http, self._target.url, as_user(self._token))
            conversation = await self._look()
            await self._participants.read(self._api, conversation)
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
            if self._learning is not None:
                self._learning.cancel()
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
        """Show the participants that were added or removed while disconnected; of a large conversation, their number.
        These changes have no rev, so catch-up does not find them."""
        before, number = self._participants.known, self._participants.number
        if not await self._learn():
            terminal.note("(REST does not answer: missed changes of participants are not shown.)")
            return
        now_in = self._participants.known
        if before is not None and now_in is not None:
            for event, who in (("added", now_in - before), ("removed", before - now_in)):
                for user in sorted(who):
                    self._show_missed(f"participant:{event}", userId=user)
        elif number != self._participants.number:
            self._show_missed("participants:changed", participantCount=self._participants.number)

    def _show_missed(self, event: str, **data: Any) -> None:
        where = {"conversationId": self._follower.id, "timestamp": iso(now())}
        self._show(Happened(event, {**where, **data}))

    async def _learn(self) -> bool:
        """Returns False if the participants could not be read."""
        try:
            await self._participants.read(self._api, await self._look())
        except Unreachable:
            return False
        return True

    def _lost(self) -> None:
        self._follower.lost()
        terminal.note("Connection lost. Reconnecting …")

    def _tell(self, happened: Happened) -> None:
        event, data = happened.event, happened.data
        if event in PRESENCE and data["userId"] not in self._participants:
            return
        if event == "participants:changed":
            self._participants.became_large(data["participantCount"])
        if event in ("participant:added", "participant:removed"):
            if not self._participants.note(data["userId"], is_in=event == "participant:added"):
                return  # already shown after the reconnection
            if self._participants.known is None:
                self._learn_soon()  # The conversation is no longer large.
        self._show(happened)
        if event == REMOVED:
            self._removed = True
            self._end.set()

    def _learn_soon(self) -> None:
        if self._learning is None or self._learning.done():
            self._learning = self._group.create_task(self._learn())

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
