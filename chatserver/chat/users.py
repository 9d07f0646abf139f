"""Users, as the Master Service has told us of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import Any

from .. import json_codec
from ..clock import iso, now
from ..errors import Forbidden, NotFound, Unauthenticated, ValidationFailed
from ..mongo import Document, Mongo
from .rooms import ConversationRooms


@dataclass(frozen=True, slots=True)
class UserSync:
    """`changes` has only what was given: name, avatar_url, status, metadata."""

    user_id: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OneUser:
    user_id: str


SYNCS_AT_ONCE = 16
"""Users of a batch: one after another, a thousand would take longer than a request may."""
ADMITTED = 50_000
"""Users known to be active, so that a request costs no look-up."""


@dataclass(frozen=True, slots=True)
class SyncedUser:
    view: Mapping[str, Any]
    is_new: bool


class Users:
    """`left(user_id)` is called for a user who was deleted, to leave every conversation."""

    def __init__(self, mongo: Mongo, rooms: ConversationRooms, *, require_known: bool) -> None:
        self._mongo = mongo
        self._rooms = rooms
        self._require_known = require_known
        self._admitted: OrderedDict[str, None] = OrderedDict()
        self._shut_outs = 0
        self.left: Callable[[str], Awaitable[None]]
        rooms.on("shut out", self._shut)

    async def admit(self, user_id: str, name: str | None) -> None:
        """Let a caller in whose token is valid; one who is unknown is created.

        Raises Forbidden for a blocked or deleted user, Unauthenticated for an unknown one where
        users have to be known.
        """
        if user_id in self._admitted and self._rooms.in_sync:
            return
        shut_outs = self._shut_outs
        doc = await self._mongo.users.find_one({"_id": user_id}, {"status": 1})
        if doc is None:
            if self._require_known:
                raise Unauthenticated("This user is not known here.")
            await self._create([user_id], name)
            # Read again: it may have been created, and blocked, by someone else just now.
            doc = await self._mongo.users.find_one({"_id": user_id}, {"status": 1})
        if doc is None or doc["status"] != "active":
            raise Forbidden(f"This user is {doc['status'] if doc else 'deleted'}.")
        if shut_outs != self._shut_outs:
            return  # What was read may be from before somebody was shut out: not to be remembered.
        self._admitted[user_id] = None
        if len(self._admitted) > ADMITTED:
            self._admitted.popitem(last=False)

    async def need(self, user_ids: list[str], field: str) -> None:
        """Make sure that the named users exist: created when unknown, refused when deleted.

        Raises ValidationFailed, naming `field`.
        """
        if not user_ids:
            return
        known = {
            doc["_id"]: doc["status"]
            async for doc in self._mongo.users.find({"_id": {"$in": user_ids}}, {"status": 1})
        }
        if gone := [user_id for user_id in user_ids if known.get(user_id) == "deleted"]:
            raise ValidationFailed(
                details={field: [f"{user_id!r} was deleted." for user_id in gone]}
            )
        unknown = [user_id for user_id in user_ids if user_id not in known]
        if unknown and self._require_known:
            raise ValidationFailed(
                details={field: [f"{user_id!r} is not known here." for user_id in unknown]}
            )
        if unknown:
            await self._create(unknown, None)

    async def deleted(self, user_ids: list[str]) -> list[str]:
        """Those of the users who were deleted."""
        gone = self._mongo.users.find({"_id": {"$in": user_ids}, "status": "deleted"}, {"_id": 1})
        return [doc["_id"] async for doc in gone]

    async def _create(self, user_ids: Iterable[str], name: str | None) -> None:
        at = now()
        await self._mongo.insert_missing(
            "users",
            [
                {
                    "_id": user_id,
                    "name": name,
                    "avatarUrl": None,
                    "status": "active",
                    "createdAt": at,
                    "updatedAt": at,
                }
                for user_id in user_ids
            ],
        )

    async def get(self, user_id: str) -> Mapping[str, Any]:
        doc = await self._mongo.users.find_one({"_id": user_id})
        if doc is None:
            raise NotFound()
        return _view(doc)

    async def sync(self, sync: UserSync) -> SyncedUser:
        """Create or update a user: what is not given stays. A deleted user who is synced is back."""
        is_new = await self._sync(sync)
        return SyncedUser(await self.get(sync.user_id), is_new)

    async def _sync(self, sync: UserSync) -> bool:
        """Whether the user is new."""
        at = now()
        names = {
            "name": "name",
            "avatar_url": "avatarUrl",
            "status": "status",
            "metadata": "metadata",
        }
        changes = {names[key]: value for key, value in sync.changes.items()}
        if "metadata" in changes:
            changes["metadata"] = json_codec.encode(changes["metadata"]).decode()
        defaults: Document = {"name": None, "avatarUrl": None, "status": "active", "createdAt": at}
        before = await self._mongo.users.find_one_and_update(
            {"_id": sync.user_id},
            {
                "$set": {**changes, "updatedAt": at},
                "$setOnInsert": {
                    key: value for key, value in defaults.items() if key not in changes
                },
            },
            upsert=True,
        )
        if before and before["status"] == "deleted" and "status" not in changes:
            await self._mongo.users.update_one(
                {"_id": sync.user_id}, {"$set": {"status": "active"}}
            )
        if changes.get("status") == "blocked":
            await self._shut_out(sync.user_id, "This user is blocked.")
        return before is None

    async def sync_all(self, syncs: Iterable[UserSync]) -> int:
        """Create or update many users; returns how many are new.

        Several syncs of one user end as they would one after another, in one write.
        """
        changes: dict[str, dict[str, Any]] = {}
        for sync in syncs:
            changes.setdefault(sync.user_id, {}).update(sync.changes)
        at_once = asyncio.Semaphore(SYNCS_AT_ONCE)

        async def sync_one(user_id: str, changes: Mapping[str, Any]) -> bool:
            async with at_once:
                return await self._sync(UserSync(user_id, changes))

        return sum(await asyncio.gather(*starmap(sync_one, changes.items())))

    async def delete(self, user_id: str) -> None:
        """Mark a user deleted, close the user's sockets, and take it out of every conversation.

        May be repeated: a deletion that was cut off half-way is finished by the next.
        """
        found = await self._mongo.users.update_one(
            {"_id": user_id}, {"$set": {"status": "deleted", "updatedAt": now()}}
        )
        if not found.matched_count:
            raise NotFound()
        await self._shut_out(user_id, "This user was deleted.")
        await self.left(user_id)

    async def shut_out_inactive(self, user_ids: list[str]) -> None:
        """Shut out those of the users who were blocked or deleted while this node missed the signal of it."""
        self._shut_outs += 1
        self._admitted.clear()
        cursor = self._mongo.users.find(
            {"_id": {"$in": user_ids}, "status": {"$ne": "active"}}, {"status": 1}
        )
        async for doc in cursor:
            self._shut([doc["_id"], f"This user is {doc['status']}."])

    async def _shut_out(self, user_id: str, why: str) -> None:
        self._shut([user_id, why])
        await self._rooms.signalled("shut out", [user_id, why])

    def _shut(self, signal: list[str]) -> None:
        user_id, why = signal
        self._shut_outs += 1
        self._admitted.pop(user_id, None)
        self._rooms.disconnect(user_id, Forbidden(why))


def _view(doc: Document) -> Mapping[str, Any]:
    metadata = doc.get("metadata")
    seen = doc.get("lastSeenAt")
    return {
        "externalUserId": doc["_id"],
        "name": doc["name"],
        "avatarUrl": doc["avatarUrl"],
        "status": doc["status"],
        "metadata": json_codec.Json(metadata) if metadata else {},
        "lastSeen": iso(seen) if seen else None,
        "createdAt": iso(doc["createdAt"]),
        "updatedAt": iso(doc["updatedAt"]),
    }
