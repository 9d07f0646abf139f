"""Turns any number of connections into one stream of a conversation's changes, each once and in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..client.socket import Socket

PAGE = 200
NEWEST = 2**53 - 1
"""A rev that no conversation reaches."""
SYNCED = "messages:sync"
REMOVED = "conversation:removed"
PRESENCE = ("user:online", "user:offline")
WHOLE = ("conversation:new", "conversation:joined", "conversation:updated")
"""Events whose payload is the conversation."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the server; or SYNCED with the current state of a message, in place of all its changes that were
    missed."""

    event: str
    data: Any

    @property
    def rev(self) -> int | None:
        """The rev of a change; None for an event without one, such as typing."""
        rev = self.data.get("rev")
        return rev if isinstance(rev, int) else None


class Follower:
    """Calls `tell` with each change once, in the order of revs, across lost connections. Events without a rev
    (typing, presence, read marks) are passed on only while connected."""

    def __init__(
        self, conversation_id: str, since: int | None, last: int, tell: Callable[[Happened], None]
    ) -> None:
        self.id = conversation_id
        self.rev = since
        """All changes up to this rev have been passed on; None before the first."""
        self._last = last
        self._tell = tell
        self._held: list[Happened] | None = []
        """Events that arrive before a catch-up is complete; None when there is no catch-up."""

    def hear(self, event: str, data: Any) -> None:
        """Take an event of the connection. Events of other conversations are ignored."""
        # Presence events name no conversation.
        if event not in PRESENCE:
            of = data.get("id" if event in WHOLE else "conversationId")
            if of != self.id:
                return
        happened = Happened(event, data)
        if self._held is None:
            self._pass_on(happened)
        else:
            self._held.append(happened)

    def lost(self) -> None:
        self._held = []

    async def catch_up(self, socket: Socket) -> None:
        """Read the missed changes, then pass on the events held back. Raises RefusedByServer, ConnectionLost."""
        if self.rev is None:
            self.rev = await self._begin(socket)
        while await self._read_on(socket):
            pass
        held, self._held = self._held or [], None
        for happened in held:
            self._pass_on(happened)

    def _pass_on(self, happened: Happened) -> None:
        rev = happened.rev
        if rev is not None:
            if rev <= (self.rev or 0):
                return  # already in what was read
            self.rev = rev
        self._tell(happened)

    async def _begin(self, socket: Socket) -> int:
        now = await self._sync(socket, afterRev=NEWEST, limit=1)
        seq, shown = max(0, now["lastSeq"] - self._last), []
        while seq < now["lastSeq"]:
            page = await self._sync(socket, afterSeq=seq, limit=PAGE)
            shown += page["messages"]
            seq = page["messages"][-1]["seq"]
        for message in shown:
            # A message with a later rev is read by `_read_on`.
            if message["rev"] <= now["lastRev"]:
                self._tell(Happened(SYNCED, message))
        return int(now["lastRev"])

    async def _read_on(self, socket: Socket) -> bool:
        """Read one page. Returns True if there is more to read."""
        page = await self._sync(socket, afterRev=self.rev, limit=PAGE)
        for message in page["messages"]:
            if message["rev"] > page["lastRev"]:
                # The connection receives the changes beyond `lastRev` as events. But an older message with
                # such a rev may also have changed before `lastRev`, and the page shows only its newest rev.
                # Read again, until no page hides an earlier change in this way.
                self.rev = max(self.rev or 0, page["lastRev"])
                return page["hasMore"] or any(
                    message["rev"] > page["lastRev"] and message["seq"] <= page["lastSeq"]
                    for message in page["messages"]
                )
            self._pass_on(Happened(SYNCED, message))
        if not page["hasMore"]:
            self.rev = max(self.rev or 0, page["lastRev"])
        return bool(page["hasMore"])

    async def _sync(self, socket: Socket, **asked: Any) -> Any:
        return await socket.call("messages:sync", {"conversationId": self.id, **asked})
