"""Records presence. A user's document names the leases of the nodes on which the user has sockets.

A user goes online when the first lease is added, and offline when the last one is removed. For leases
see `node_leases.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from ...clock import iso, now
from ...mongo import Document, Mongo, Session
from ...observability.metrics import Families
from ...outbox.event import OutboxRecord
from ..large_conversations import LargeConversations
from ..membership import Members
from ..outside import ConversationRooms, Outbox
from .node_leases import LeaseGuard

BATCH = 250
"""Users per transaction. They need a small part of the two seconds that a transaction may take."""
MAX_UNSURE = 20 * BATCH
"""Users whose last transition is uncertain. Those of a dead node may stay uncertain here, because another node has
taken over meanwhile."""


@dataclass(frozen=True, slots=True)
class Sighting:
    here: bool
    seen: datetime
    """The user's last activity."""


@dataclass(frozen=True, slots=True)
class _Transition:
    user_id: str
    number: int
    """Grows by one with each transition of this user."""
    online: bool
    payload: Mapping[str, Any]

    def record(self, at: datetime) -> OutboxRecord:
        kind = "user.online" if self.online else "user.offline"
        return OutboxRecord.of_user(kind, self.user_id, self.number, at, self.payload)


class Transitions:
    """Records on which nodes users are, and announces the users who thereby go online or offline.

    Such a transition is recorded in one transaction with its webhook event, and announced after the commit.
    """

    def __init__(
        self,
        mongo: Mongo,
        outbox: Outbox,
        members: Members,
        rooms: ConversationRooms,
        large: LargeConversations,
    ) -> None:
        self._mongo = mongo
        self._outbox = outbox
        self._members = members
        self._rooms = rooms
        self._large = large
        self._unsure: OrderedDict[str, int] = OrderedDict()
        """The numbers of transitions that may have been recorded: the database did not answer."""

    def watch(self, metrics: Families) -> None:
        metrics.memory("uncertain transitions", lambda: len(self._unsure), MAX_UNSURE)

    async def record(
        self,
        users: Mapping[str, Sighting],
        lease: str,
        *,
        replaces: Callable[[str], bool],
        guard: LeaseGuard,
    ) -> None:
        """Record at most BATCH users as here under `lease`, or as not here.

        The leases that satisfy `replaces` are removed from the users. A failed call may be repeated.
        Raises LeaseLost, PyMongoError.
        """
        at = now()
        made: list[_Transition] = []
        where: dict[str, list[str]] = {}
        large: set[str] = set()
        tried: dict[str, int] = {}

        async def store(session: Session) -> None:
            # `store` runs again after a conflict.
            made.clear()
            where.clear()
            tried.clear()
            docs = await self._mongo.presence_of(list(users), session)
            news: list[_Transition] = []
            changed: list[Document] = []
            for doc in docs:
                before: list[str] = doc.get("on", [])
                sighting = users[doc["_id"]]
                on = [recorded for recorded in before if not replaces(recorded)]
                if sighting.here:
                    on.append(lease)
                number = doc.get("presenceChanges", 0)
                if set(on) == set(before):
                    if self._unsure.get(doc["_id"]) == number:
                        made.append(_transition(doc, number, sighting, at, online=bool(on)))
                    continue
                doc["lastSeenAt"] = max(sighting.seen, doc.get("lastSeenAt", sighting.seen))
                doc["on"] = on
                if bool(on) != bool(before):
                    transition = _transition(doc, number + 1, sighting, at, online=bool(on))
                    doc["presenceChanges"] = transition.number
                    news.append(transition)
                changed.append(doc)
            made.extend(news)
            where.update(await self._where([transition.user_id for transition in made]))
            large.update(await self._large.among(chain.from_iterable(where.values())))
            await guard(session)
            await self._mongo.set_presence(
                changed, {transition.user_id for transition in news}, session
            )
            await self._outbox.append(session, [transition.record(at) for transition in news])
            tried.update({transition.user_id: transition.number for transition in news})

        try:
            await self._mongo.transaction(store)
        except BaseException:  # cancelled or failed: the transitions may be stored all the same
            self._unsure.update(tried)
            while len(self._unsure) > MAX_UNSURE:
                self._unsure.popitem(last=False)
            raise
        for user_id in users:
            self._unsure.pop(user_id, None)
        for transition in made:
            # The user may have entered more rooms since, or have left all of them.
            rooms = self._rooms.rooms_of(transition.user_id) or where[transition.user_id]
            self._rooms.emit_to_contacts(
                [room for room in rooms if room not in large and not self._large.seems_large(room)],
                _event(transition.online),
                transition.payload,
                user_id=transition.user_id,
                number=transition.number,
            )

    async def _where(self, user_ids: list[str]) -> dict[str, list[str]]:
        """Returns the rooms of each user. Called before the commit, because after a commit a failed read
        would mean that the transition is never announced."""
        where = {user_id: list(self._rooms.rooms_of(user_id)) for user_id in user_ids}
        away = [user_id for user_id, rooms in where.items() if not rooms]
        return where | await self._members.rooms_of_many(away)


def announced(doc: Document) -> tuple[str, Mapping[str, Any]]:
    """Returns the event and the payload of a user's last transition, from the user's document."""
    online = bool(doc.get("on"))
    return _event(online), _payload(doc["_id"], doc["presenceAt"], doc["lastSeenAt"], online=online)


def _event(online: bool) -> str:
    return "user:online" if online else "user:offline"


def _payload(user_id: str, at: datetime, seen: datetime, *, online: bool) -> Mapping[str, Any]:
    if online:
        return {"userId": user_id, "timestamp": iso(at)}
    return {"userId": user_id, "lastSeen": iso(seen), "timestamp": iso(at)}


def _transition(
    doc: Document, number: int, sighting: Sighting, at: datetime, *, online: bool
) -> _Transition:
    user_id: str = doc["_id"]
    seen = max(sighting.seen, doc.get("lastSeenAt", sighting.seen))
    return _Transition(user_id, number, online, _payload(user_id, at, seen, online=online))
