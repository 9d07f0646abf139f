"""Users. The Master Service syncs them, or they are created when first named."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Literal, TypedDict

from .. import json_codec
from ..clock import iso, now
from ..errors import Conflict, Forbidden, NotFound, Unauthenticated, ValidationFailed
from ..mongo import Document, DuplicateKeyError, Mongo
from ..observability.metrics import Families
from .outside import ConversationRooms
from .signals import ShutOut


class UserChanges(TypedDict, total=False):
    """Only the fields that were given."""

    name: str | None
    avatar_url: str | None
    status: Literal["active", "blocked"]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UserSync:
    user_id: str
    changes: UserChanges


@dataclass(frozen=True, slots=True)
class OneUser:
    user_id: str


SYNCS_AT_ONCE = 16
"""Concurrent syncs of a batch. One after another, a thousand would exceed a request's deadline."""
ADMITTED = 50_000
"""Users who are remembered as active, so that their requests need no read."""


@dataclass(frozen=True, slots=True)
class SyncedUser:
    view: Mapping[str, Any]
    is_new: bool


class Users:
    """Admits, creates, syncs and deletes users."""

    def __init__(self, mongo: Mongo, rooms: ConversationRooms, *, require_known: bool) -> None:
        self._mongo = mongo
        self._rooms = rooms
        self._require_known = require_known
        self._admitted: OrderedDict[str, None] = OrderedDict()
        self._shut_outs = 0
        rooms.on(ShutOut, self._shut)

    def watch(self, metrics: Families) -> None:
        metrics.memory("admitted users", lambda: len(self._admitted), ADMITTED)

    async def admit(self, user_id: str, name: str | None) -> None:
        """Check the user of a valid token. An unknown user is created.

        Raises Forbidden for a blocked or deleted user, and Unauthenticated for an unknown user if users
        must be known.
        """
        if user_id in self._admitted and self._rooms.in_sync:
            return
        shut_outs = self._shut_outs
        doc = await self._mongo.users.find_one({"_id": user_id}, {"status": 1})
        if doc is None:
            if self._require_known:
                raise Unauthenticated("This user is not known here.", reason="subject")
            await self._create([user_id], name)
            # Read again: another request may just have created and blocked this user.
            doc = await self._mongo.users.find_one({"_id": user_id}, {"status": 1})
        if doc is None or doc["status"] != "active":
            raise Forbidden(f"This user is {doc['status'] if doc else 'deleted'}.")
        if shut_outs != self._shut_outs:
            return  # A user was blocked or deleted during the read, so do not remember its result.
        self._admitted[user_id] = None
        if len(self._admitted) > ADMITTED:
            self._admitted.popitem(last=False)

    async def need(self, user_ids: list[str], field: str) -> None:
        """Create the named users who do not exist.

        Raises ValidationFailed, naming `field`, for deleted users, and for unknown users if users must be
        known.
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
        """Returns the deleted users among `user_ids`."""
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
        return user_view(doc)

    async def sync(self, sync: UserSync) -> SyncedUser:
        """Create or update a user. Fields that are not given stay as they are.

        The status `active` restores a deleted user. Without it, raises Conflict for a deleted user.
        """
        restores = sync.changes.get("status") == "active"
        is_new = await self._sync(sync.user_id, sync.changes, restores=restores)
        return SyncedUser(await self.get(sync.user_id), is_new)

    async def _sync(self, user_id: str, given: UserChanges, *, restores: bool) -> bool:
        """Returns True if the user is new. Raises Conflict for a deleted user, unless `restores`."""
        at = now()
        names = {
            "name": "name",
            "avatar_url": "avatarUrl",
            "status": "status",
            "metadata": "metadata",
        }
        changes = {names[key]: value for key, value in given.items()}
        if "metadata" in changes:
            changes["metadata"] = json_codec.encode(changes["metadata"]).decode()
        defaults: Document = {"name": None, "avatarUrl": None, "status": "active", "createdAt": at}
        which: Document = {"_id": user_id}
        if not restores:
            which["status"] = {"$ne": "deleted"}
        while True:
            try:
                before = await self._mongo.users.find_one_and_update(
                    which,
                    {
                        "$set": {**changes, "updatedAt": at},
                        "$setOnInsert": {
                            key: value for key, value in defaults.items() if key not in changes
                        },
                    },
                    upsert=True,
                )
                break
            except DuplicateKeyError:
                # The user is deleted, or another request has just created the user.
                if not restores and await self.deleted([user_id]):
                    raise Conflict(
                        "This user was deleted. The status active restores it."
                    ) from None
        if changes.get("status") == "blocked":
            await self._shut_out(user_id, "This user is blocked.")
        return before is None

    async def sync_all(self, syncs: Mapping[int, UserSync]) -> tuple[int, Mapping[int, Conflict]]:
        """Create or update many users. Returns how many are new, and the refused syncs, by their keys.

        The syncs of one user are merged into one write, with the same result as one after another.
        """
        indexes: dict[str, list[int]] = {}
        for index, sync in syncs.items():
            indexes.setdefault(sync.user_id, []).append(index)
        refused: dict[int, Conflict] = {}
        at_once = asyncio.Semaphore(SYNCS_AT_ONCE)

        async def sync_one(user_id: str, indexes: list[int]) -> bool:
            changes = [syncs[index].changes for index in indexes]
            restoring = [n for n, given in enumerate(changes) if given.get("status") == "active"]
            first = restoring[0] if restoring else len(changes)
            async with at_once:
                try:
                    return await self._sync(user_id, _merged(changes), restores=first == 0)
                except Conflict as refusal:
                    # One after another, those before the one that restores the user are refused.
                    refused.update(dict.fromkeys(indexes[:first], refusal))
                    if restoring:
                        await self._sync(user_id, _merged(changes[first:]), restores=True)
                    return False

        return sum(await asyncio.gather(*starmap(sync_one, indexes.items()))), refused

    async def mark_deleted(self, user_id: str) -> None:
        """Erase the user's profile, refuse the user from now on, and close the user's sockets. Raises NotFound."""
        found = await self._mongo.users.update_one(
            {"_id": user_id},
            {
                "$set": {"status": "deleted", "name": None, "avatarUrl": None, "updatedAt": now()},
                "$unset": {"metadata": ""},
            },
        )
        if not found.matched_count:
            raise NotFound()
        await self._shut_out(user_id, "This user was deleted.")

    async def shut_out_inactive(self, user_ids: list[str]) -> None:
        """Disconnect the users who were blocked or deleted while this node missed the signals."""
        self._shut_outs += 1
        self._admitted.clear()
        cursor = self._mongo.users.find(
            {"_id": {"$in": user_ids}, "status": {"$ne": "active"}}, {"status": 1}
        )
        async for doc in cursor:
            self._shut(ShutOut(doc["_id"], f"This user is {doc['status']}."))

    async def _shut_out(self, user_id: str, why: str) -> None:
        shut_out = ShutOut(user_id, why)
        self._shut(shut_out)
        await self._rooms.signalled(shut_out)

    def _shut(self, shut_out: ShutOut) -> None:
        self._shut_outs += 1
        self._admitted.pop(shut_out.user_id, None)
        self._rooms.disconnect(shut_out.user_id, Forbidden(shut_out.why))


def _merged(changes: Iterable[UserChanges]) -> UserChanges:
    """Returns the changes as one. The last one counts."""
    merged: UserChanges = {}
    for given in changes:
        merged.update(given)
    return merged


def user_view(doc: Document) -> Mapping[str, Any]:
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
