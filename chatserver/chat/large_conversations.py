"""Large conversations: the ones with so many participants that less is announced in them.

In a conversation of N participants, N of them who come online, read a message, join or leave would cost N² events.
So in a large one the server tells reading to the reader's own sockets only, and of joining and leaving only the
number of participants, at most once in PAUSE_S. It does not tell who is online. Clients ask for what they show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ..observability.metrics import Families
from .outside import ConversationRooms
from .rosters import Rosters
from .signals import Counted

PAUSE_S = 1.0
"""The shortest time between two events that tell the number of participants."""


class LargeConversations:
    """Knows which conversations are large, without asking the database about those that this node follows."""

    def __init__(self, rosters: Rosters, rooms: ConversationRooms) -> None:
        self._rosters = rosters
        self._rooms = rooms
        self._known: dict[str, bool] = {}
        """The conversations that this node follows: True for a large one."""
        self._pauses: dict[str, asyncio.TimerHandle] = {}
        self._untold: dict[str, Counted] = {}
        """The numbers that wait for the end of a pause."""
        rooms.on(Counted, self._counted)
        rooms.on_unfollowed(self._unfollowed)

    def watch(self, metrics: Families) -> None:
        metrics.memory(
            "sizes of conversations",
            lambda: len(self._known) + len(self._pauses) + len(self._untold),
            None,
        )

    def seems_large(self, conversation_id: str) -> bool:
        """Like `among`, but False if the database would have to be asked."""
        return self._known.get(conversation_id, False)

    async def among(self, conversation_ids: Iterable[str]) -> set[str]:
        """Returns those of the conversations that are large."""
        wanted = set(conversation_ids)
        large = {each for each in wanted if self._known.get(each)}
        if unknown := wanted - self._known.keys():
            followed = {each for each in unknown if self._rooms.follows(each)}
            for conversation_id, count in (await self._rosters.counts(unknown)).items():
                is_large = self._rosters.is_large(count)
                if conversation_id in followed and self._rooms.follows(conversation_id):
                    # A change that was applied meanwhile is newer than the number that was read.
                    is_large = self._known.setdefault(conversation_id, is_large)
                if is_large:
                    large.add(conversation_id)
        return large

    def _counted(self, counted: Counted) -> None:
        conversation_id = counted.conversation_id
        if not self._rooms.follows(conversation_id):
            return
        if counted.participants is None:
            self._known.pop(conversation_id, None)
            return
        self._known[conversation_id] = counted.is_large
        if not counted.is_large:
            self._untold.pop(conversation_id, None)
        elif conversation_id in self._pauses:
            self._untold[conversation_id] = counted
        else:
            self._tell(counted)

    def _tell(self, counted: Counted) -> None:
        conversation_id = counted.conversation_id
        self._rooms.emit_here(
            conversation_id,
            "participants:changed",
            {
                "conversationId": conversation_id,
                "participantCount": counted.participants,
                "timestamp": counted.timestamp,
            },
        )
        loop = asyncio.get_running_loop()
        self._pauses[conversation_id] = loop.call_later(PAUSE_S, self._go_on, conversation_id)

    def _go_on(self, conversation_id: str) -> None:
        del self._pauses[conversation_id]
        if (counted := self._untold.pop(conversation_id, None)) is not None:
            self._tell(counted)

    def _unfollowed(self, conversation_id: str) -> None:
        self._known.pop(conversation_id, None)
        self._untold.pop(conversation_id, None)
        if (pause := self._pauses.pop(conversation_id, None)) is not None:
            pause.cancel()
