"""Plays the scenes of all conversations at the same time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import aiohttp

from ...development import PEOPLE, Person
from ..client.api import Api
from ..client.commands import Target
from ..client.reconnecting_socket import ReconnectingSocket
from .actor import Actor
from .cast import CONVERSATIONS, ScriptedConversation
from .pace import Pace
from .scenes import SCENES, ScriptLine, endless

OnMessage = Callable[[ScriptedConversation, Person, str], None]
"""Called with each message after it was sent."""
Note = Callable[[str], None]
"""Called with each sentence to show to the user."""


class Play:
    """`messages`: stop after this many. `once`: stop when each scene has been played."""

    def __init__(
        self,
        pace: Pace,
        *,
        messages: int | None = None,
        once: bool = False,
        on_message: OnMessage,
        note: Note,
    ) -> None:
        self._pace = pace
        self._left = messages
        self._once = once
        self._on_message = on_message
        self._note = note
        self._lost = False
        self._chance = random.Random()
        self._actors: dict[str, Actor] = {}

    async def run(
        self,
        http: aiohttp.ClientSession,
        target: Target,
        api: Api,
        conversations: Mapping[str, str],
    ) -> None:
        """Raises Unreachable, RefusedByServer."""
        for role in PEOPLE:
            own = [conversations[item.key] for item in CONVERSATIONS if role.id in item.cast]
            connect = partial(
                ReconnectingSocket, http, target.ws_urls, partial(target.token, role.id)
            )
            tell = {"came": self._came, "lost": self._gone}
            self._actors[role.id] = Actor(role, self._pace, api, connect, own, **tell)
        async with asyncio.TaskGroup() as lives:
            living = [lives.create_task(actor.live()) for actor in self._actors.values()]
            async with asyncio.TaskGroup() as plays:
                for scripted in CONVERSATIONS:
                    plays.create_task(self._play(scripted, conversations[scripted.key]))
            for life in living:
                life.cancel()

    def _gone(self) -> None:
        # All actors lose their connections together; one note is enough.
        if not self._lost:
            self._lost = True
            self._note("Connection lost. Reconnecting …")

    def _came(self) -> None:
        if self._lost:
            self._lost = False
            self._note("Reconnected.")

    async def _play(self, scripted: ScriptedConversation, conversation: str) -> None:
        scenes: Iterator[list[ScriptLine]] = endless(scripted.key, self._chance)
        if self._once:
            scenes = itertools.islice(scenes, len(SCENES[scripted.key]))
        await self._pace.between(0, scripted.pause_s / 2)
        async with asyncio.TaskGroup() as readers:
            for scene in scenes:
                # The last message of each person. The key None has the last of all.
                last: dict[str | None, Any] = {}
                for line in scene:
                    if self._pace.over.is_set():
                        return
                    await self._perform(scripted, conversation, line, last, readers)
                await self._pace.between(scripted.pause_s / 2, scripted.pause_s * 1.5)

    async def _perform(
        self,
        scripted: ScriptedConversation,
        conversation: str,
        line: ScriptLine,
        last: dict[str | None, Any],
        readers: asyncio.TaskGroup,
    ) -> None:
        actor = self._actors[line.who]
        await self._pace.between(0.5, 2.5)
        async with actor.attentive():
            if line.kind in ("say", "answer"):
                if not self._may_speak():
                    return
                before = last.get(None)
                reply_to = before["id"] if line.kind == "answer" and before else None
                message = await actor.say(conversation, line.text, reply_to)
                if message:
                    last[None] = last[line.who] = message
                    self._on_message(scripted, actor.role, line.text)
                    for user_id in scripted.cast:
                        if user_id != line.who:
                            readers.create_task(
                                self._actors[user_id].read(conversation, message["id"])
                            )
                return
            of = last.get(None if line.kind == "react" else line.who)
            if of is None:
                return  # the message was not allowed
            message = {"messageId": of["id"]}
            match line.kind:
                case "react":
                    await actor.do("reaction:add", {**message, "emoji": line.text})
                case "correct":
                    await actor.do("message:edit", {**message, "content": line.text})
                case "take back":
                    await actor.do("message:delete", message)

    def _may_speak(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        if self._left <= 0:
            self._pace.over.set()
        return self._left >= 0
