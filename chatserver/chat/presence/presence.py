"""Presence: a user is online while any of the user's sockets is connected, on any node.

A user goes offline only after a grace period, so that a reload of a page is silent. Transitions are
gathered for a moment, recorded together and then announced, once to each socket however many
conversations it shares with the user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

import structlog

from ... import tasks
from ...clock import iso, now
from ...mongo import DatabaseUnavailable, Document, Mongo
from ...mongo.write_behind import LatestDates
from ...observability.metrics import Families
from ..membership import Members
from .node_leases import EndedLease, LeaseGuard, LeaseLost, Nodes
from .transitions import BATCH, Sighting, Transitions

log = structlog.get_logger(__name__)

GATHER_S = 0.2
AT_ONCE_S = 0.005
ACTIVE_S = 10.0
"""How late other nodes may learn of a user's last activity on this node."""


class Presence:
    def __init__(
        self,
        mongo: Mongo,
        members: Members,
        nodes: Nodes,
        transitions: Transitions,
        *,
        grace_s: float,
    ) -> None:
        self._mongo = mongo
        self._members = members
        self._nodes = nodes
        self._transitions = transitions
        self._grace_s = grace_s
        self._sockets: dict[str, int] = {}
        self._seen: dict[str, datetime] = {}
        """The last activity of the users on this node."""
        self._active = LatestDates(mongo, "users", "lastSeenAt", pace_s=ACTIVE_S)
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._recorded: set[str] = set()
        """Users who are recorded as online under the lease of this node."""
        self._changed: dict[str, None] = {}
        self._unsure: set[str] = set()
        """Users whose record is uncertain, because the database did not answer. They are recorded again."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._next_at = 0.0

    def watch(self, metrics: Families) -> None:
        metrics.memory(
            "presence",
            lambda: (
                len(self._sockets)
                + len(self._seen)
                + len(self._leaving)
                + len(self._recorded)
                + len(self._changed)
                + len(self._unsure)
            ),
            None,
        )
        self._active.watch(metrics)
        self._transitions.watch(metrics)

    # --- connections ----------------------------------------------------------------------------

    def connected(self, user_id: str) -> None:
        self._sockets[user_id] = self._sockets.get(user_id, 0) + 1
        self._seen[user_id] = now()
        if timer := self._leaving.pop(user_id, None):
            timer.cancel()
        self._note(user_id)

    def active(self, user_id: str) -> None:
        at = self._seen[user_id] = now()
        if self._nodes.count > 1:
            self._active.touch(user_id, at)

    def disconnected(self, user_id: str) -> None:
        left = self._sockets[user_id] - 1
        if left:
            self._sockets[user_id] = left
            return
        del self._sockets[user_id]
        self._seen[user_id] = now()
        self._leave_after(user_id, self._grace_s)

    def _leave_after(self, user_id: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._leaving[user_id] = loop.call_later(seconds, self._left, user_id)

    def _left(self, user_id: str) -> None:
        del self._leaving[user_id]
        self._note(user_id)

    def _is_here(self, user_id: str) -> bool:
        return user_id in self._sockets or user_id in self._leaving

    def drain(self) -> None:
        """From now on, users who disconnect have as long to reconnect, to any node, as after a restart.

        This node is stopping and disconnects them itself.
        """
        self._grace_s = self._nodes.restart_grace_s

    # --- recording and announcing ---------------------------------------------------------------

    def _note(self, user_id: str) -> None:
        here = self._is_here(user_id)
        if here == (user_id in self._recorded) and user_id not in self._unsure:
            self._changed.pop(user_id, None)
            if not here:
                self._seen.pop(user_id, None)
            return
        self._changed[user_id] = None
        if not self._closed and (self._task is None or self._task.done()):
            self._task = tasks.keep("record presence", self._keep_recording)

    async def _keep_recording(self) -> None:
        while self._changed and not self._closed:
            # A lone user is recorded almost immediately. Of many, the first is, and then the rest together.
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(AT_ONCE_S, self._next_at - loop.time()))
            self._next_at = loop.time() + GATHER_S
            gathered = iter(list(self._changed))
            try:
                while batch := list(islice(gathered, BATCH)):
                    async with self._mongo.deadline():
                        await self._record(
                            [user_id for user_id in batch if user_id in self._changed]
                        )
            except LeaseLost:
                log.info("presence waits for a new lease", users=len(self._changed))
            except DatabaseUnavailable:
                log.warning("presence waits for the database", users=len(self._changed))
                await asyncio.sleep(1.0)

    async def _record(self, batch: list[str]) -> None:
        if not batch or self._closed:
            return
        lease = self._nodes.lease
        users = {
            user_id: Sighting(self._is_here(user_id), self._seen[user_id]) for user_id in batch
        }
        self._unsure.update(batch)
        await self._transitions.record(
            users, lease, replaces=self._nodes.is_ours, guard=partial(self._nodes.guard, lease)
        )
        if lease == self._nodes.lease:
            self._unsure.difference_update(batch)
            self._recorded.difference_update(batch)
            self._recorded.update(user_id for user_id, sighting in users.items() if sighting.here)
        for user_id in batch:
            # The user may have come or left during the write.
            self._note(user_id)

    def begun(self) -> None:
        """This node has a new lease, after it counted as dead. Record the users who are here again.

        Users in their grace period are not recorded again: they have had the time to reconnect. Users who
        closed a socket while this node was frozen count among them, because the node reads waiting input
        before the database replies.
        """
        for timer in self._leaving.values():
            timer.cancel()
        gone, self._leaving = self._leaving, {}
        # No record counts any more, even if users come or leave before the next recording.
        self._unsure |= self._recorded
        self._recorded.clear()
        for user_id in {*gone, *self._sockets, *self._unsure}:
            self._note(user_id)

    async def take_over(self, ended: EndedLease, guard: LeaseGuard) -> None:
        """Take the users of an ended lease offline, except those who have reconnected."""
        while True:
            async with self._mongo.deadline():
                found = self._mongo.users.find({"on": ended.lease}, {"_id": 1}).limit(BATCH)
                users = {doc["_id"]: Sighting(False, ended.seen_at) async for doc in found}
                if not users:
                    return
                await self._transitions.record(
                    users, self._nodes.lease, replaces=ended.lease.__eq__, guard=guard
                )
            log.info("took over users of another node", lease=ended.lease, users=len(users))

    async def close(self) -> None:
        """Record nothing more. Users who are recorded as online still have time to reconnect."""
        self._closed = True
        for timer in self._leaving.values():
            timer.cancel()
        await tasks.end(self._task)
        try:
            await self._active.close()
        except DatabaseUnavailable as error:
            log.warning("the last activity of users was not written", error=str(error))

    # --- queries --------------------------------------------------------------------------------

    async def of(self, asker_id: str, user_ids: Iterable[str]) -> list[Mapping[str, Any]]:
        """Returns the presence of each user. A user who shares no conversation with the asker looks like
        one who was never online."""
        wanted = list(dict.fromkeys(user_ids))
        others = [user_id for user_id in wanted if user_id != asker_id]
        visible = await self._members.acquainted(asker_id, others)
        return await self.look_up(wanted, {asker_id, *visible})

    async def of_one(self, asker_id: str, user_id: str) -> Mapping[str, Any]:
        (item,) = await self.of(asker_id, [user_id])
        return item

    async def look_up(
        self, user_ids: Iterable[str], visible: Collection[str]
    ) -> list[Mapping[str, Any]]:
        """Returns the presence of each user. Those who are not visible look as if they were never online."""
        away = [user_id for user_id in visible if not self._is_here(user_id)]
        known = {
            doc["_id"]: doc
            async for doc in self._mongo.users.find(
                {"_id": {"$in": away}}, {"on": 1, "lastSeenAt": 1}
            )
        }
        return [
            presence_view(user_id, *self.state(user_id, known.get(user_id, {})))
            if user_id in visible
            else presence_view(user_id, False, None)
            for user_id in user_ids
        ]

    def state(self, user_id: str, doc: Document) -> tuple[bool, datetime | None]:
        """Returns whether a user is online, and the user's last activity. `doc`: `on` and `lastSeenAt` of the user."""
        times = [self._seen.get(user_id), doc.get("lastSeenAt")]
        seen = max((at for at in times if at), default=None)
        return self._is_here(user_id) or bool(doc.get("on")), seen


def presence_view(user_id: str, here: bool, seen: datetime | None) -> Mapping[str, Any]:
    return {
        "userId": user_id,
        "status": "online" if here else "offline",
        "lastSeen": iso(seen) if seen else None,
    }
