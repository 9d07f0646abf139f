"""What happens in a conversation, each thing once and in order, over any number of connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..client.socket import Socket

PAGE = 200
NEWEST = 2**53 - 1
"""A rev that no conversation gets to."""
SYNCED = "messages:sync"
REMOVED = "conversation:removed"
PRESENCE = ("user:online", "user:offline")
WHOLE = ("conversation:new", "conversation:joined", "conversation:updated")
"""Their payload is the conversation."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event as the server told it; or SYNCED with a message that is new, or has changed, as it is by
    now, which stands for all that became of it while nobody listened."""

    event: str
    data: Any

    @property
    def rev(self) -> int | None:
        """The place of a change; None for what is only of the moment, such as typing."""
        rev = self.data.get("rev")
        return rev if isinstance(rev, int) else None


class Follower:
    """`tell` gets changes with rising revs, none missing and none twice, whatever becomes of connections.
    What has no rev (typing, presence, read marks) it gets while connected."""

    def __init__(
        self, conversation_id: str, since: int | None, last: int, tell: Callable[[Happened], None]
    ) -> None:
        self.id = conversation_id
        self.rev = since
        """All changes up to this one have been told; None: not begun."""
        self._last = last
        self._tell = tell
        self._held: list[Happened] | None = []
        """What comes while it is read what was missed; None when nothing is being read."""

    def hear(self, event: str, data: Any) -> None:
        """An event of the connection, of whichever conversation."""
        # Presence is told once for all conversations, so it names none.
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
        """Read what was missed, then go on with what was heard meanwhile. Raises RefusedByServer, ConnectionLost."""
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
                return  # told before: it was in what was read
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
            # What has changed since the beginning is read with the rest.
            if message["rev"] <= now["lastRev"]:
                self._tell(Happened(SYNCED, message))
        return int(now["lastRev"])

    async def _read_on(self, socket: Socket) -> bool:
        """One page; whether there is more to read."""
        page = await self._sync(socket, afterRev=self.rev, limit=PAGE)
        for message in page["messages"]:
            if message["rev"] > page["lastRev"]:
                # From here on it happened since this connection was there, which hears of it. But a
                # message that was there before may have changed before as well, and stands for that
                # with its newest rev only: read again, until what it stands for is complete.
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
