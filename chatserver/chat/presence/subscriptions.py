"""Presence by subscription: a socket receives the transitions of users whom it names and who share a conversation with
its user."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from ... import tasks
from ...errors import ValidationFailed
from ...mongo import DatabaseUnavailable, Mongo
from ...observability.metrics import Families
from ..membership import Members
from ..outside import Watchers
from .presence import Presence

log = structlog.get_logger(__name__)

MOST = 1000
"""Users to whom a socket may subscribe."""
AT_ONCE = 1000
"""Users in one check."""
RETRY_S = 1.0


class PresenceSubscriptions:
    """Starts subscriptions, and checks those for which the sockets' node knows no shared conversation (see Watchers)."""

    def __init__(
        self, mongo: Mongo, members: Members, presence: Presence, watchers: Watchers
    ) -> None:
        self._mongo = mongo
        self._members = members
        self._presence = presence
        self._watchers = watchers
        self._unsure: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        watchers.on_unsure = self._check_soon

    def watch(self, metrics: Families) -> None:
        metrics.memory("subscriptions to check", lambda: len(self._unsure), None)

    async def close(self) -> None:
        await tasks.end(self._task)

    async def subscribe(self, socket: Any, user_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """Subscribe a socket, and return the presence of each user. Raises ValidationFailed.

        Users who share no conversation with the socket's user look as if they were never online. They, and the
        user, are not subscribed to.
        """
        caller_id: str = socket.user_id
        wanted = list(dict.fromkeys(user_ids))
        others = [user_id for user_id in wanted if user_id != caller_id]
        new = self._watchers.add(socket, others)
        check = self._watchers.check(caller_id, others)
        try:
            shared = await self._members.acquainted(caller_id, list(check.others))
            watched = self._watchers.watched_by(socket)
            if sum(1 for other in watched if other in shared or other not in check.others) > MOST:
                raise ValidationFailed.of("userIds", f"A socket watches at most {MOST} users.")
            visible = {user_id for user_id in wanted if user_id in shared or user_id == caller_id}
            items = await self._presence.look_up(wanted, visible)
        except BaseException:  # refused, failed or cancelled
            self._watchers.end(check)
            self._watchers.remove(socket, new)
            raise
        # In the next turn, after the answer: no event that is newer than the answer may overtake it.
        asyncio.get_running_loop().call_soon(self._watchers.settle, check, shared)
        return items

    def unsubscribe(self, socket: Any, user_ids: Sequence[str]) -> None:
        self._watchers.remove(socket, user_ids)

    def _check_soon(self, user_id: str) -> None:
        self._unsure[user_id] = None
        if self._task is None or self._task.done():
            self._task = tasks.keep("check subscriptions", self._keep_checking)

    async def _keep_checking(self) -> None:
        while self._unsure:
            user_id = next(iter(self._unsure))
            del self._unsure[user_id]
            try:
                await self._check(user_id)
            except DatabaseUnavailable:
                log.warning("subscriptions wait for the database", users=len(self._unsure))
                await asyncio.sleep(RETRY_S)

    async def _check(self, user_id: str) -> None:
        check = self._watchers.check(user_id)
        shared: dict[str, str] = {}
        try:
            others = list(check.others)
            for n in range(0, len(others), AT_ONCE):
                async with self._mongo.deadline():
                    shared |= await self._members.acquainted(user_id, others[n : n + AT_ONCE])
        except BaseException:  # failed or cancelled: the check is made again
            self._watchers.end(check)
            self._unsure[user_id] = None
            raise
        self._watchers.settle(check, shared)
