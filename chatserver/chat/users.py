"""Users. The Master Service syncs them, or they are created when first named."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import dropwhile
from typing import Any, Literal, TypedDict

from .. import json_codec
from ..clock import iso, now
from ..errors import Conflict, Forbidden, NotFound, Unauthenticated, ValidationFailed
from ..mongo import Document, Mongo, Session
from ..mongo.gathered import GatheredReads
from ..mongo.upserts import Upsert, upsert_each
from ..observability.metrics import Families
from .job import Job, Progress
from .memberships import Memberships
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


SYNCS = 250
"""Users in one write of a batch."""
UNSEEN = "users.unseen"
"""The job that forgets unseen users: a request has named them, but they never came and were never synced."""
UNSEEN_S = 24 * 3600.0
"""How long an unseen user who is in no conversation is kept."""
NAMED_EVERY_S = 3600.0
"""When an unseen user is named again, it is noted at most this often."""
_NEVER_SEEN: Document = {
    "status": "active",
    "name": None,
    "avatarUrl": None,
    "metadata": {"$exists": False},
    "presenceChanges": {"$exists": False},
}
FORGET_EVERY_S = 600.0
FORGOTTEN = 500
"""Unseen users that a step of the job looks at."""
DELETED = "This user was deleted. The status active restores it."
ADMITTED = 50_000
"""Users who are remembered as active, so that their requests need no read."""


@dataclass(frozen=True, slots=True)
class SyncedUser:
    view: Mapping[str, Any]
    is_new: bool


class Users:
    """Admits, creates, syncs and deletes users."""

    def __init__(
        self,
        mongo: Mongo,
        memberships: Memberships,
        rooms: ConversationRooms,
        *,
        require_known: bool,
    ) -> None:
        self._mongo = mongo
        self._memberships = memberships
        self._rooms = rooms
        self._require_known = require_known
        self._admitted: OrderedDict[str, None] = OrderedDict()
        self._shut_outs = 0
        self._arriving = GatheredReads(self._read)
        rooms.on(ShutOut, self._shut)

    def watch(self, metrics: Families) -> None:
        metrics.memory("admitted users", lambda: len(self._admitted), ADMITTED)
        metrics.memory("statuses to read", lambda: len(self._arriving), None)

    async def admit(self, user_id: str, name: str | None) -> None:
        """Check the user of a valid token. An unknown user is created.

        Raises Forbidden for a blocked or deleted user, and Unauthenticated for an unknown user if users
        must be known.
        """
        if user_id in self._admitted and self._rooms.in_sync:
            return
        shut_outs = self._shut_outs
        doc = await self._arriving.get(user_id)
        if doc is None or "namedAt" in doc:
            if doc is None and self._require_known:
                raise Unauthenticated("This user is not known here.", reason="subject")
            # First: from now on the user is not forgotten. It may just have happened.
            await self._mongo.users.update_one({"_id": user_id}, {"$unset": {"namedAt": ""}})
            await self._create([user_id], name)
            # Read again: another request may just have created and blocked this user.
            doc = await self._arriving.get(user_id)
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
        known = await self._named(user_ids)
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
            await self._create(unknown, None, namedAt=now())

    async def _named(self, user_ids: list[str]) -> dict[str, str]:
        """Returns the statuses of those who exist. The unseen ones are not forgotten in the next hours."""
        which: Document = {"_id": {"$in": user_ids}}
        before = now() - timedelta(seconds=NAMED_EVERY_S)
        while True:
            found = self._mongo.users.find(which, {"status": 1, "namedAt": 1})
            docs = [doc async for doc in found]
            if not any("namedAt" in doc and doc["namedAt"] < before for doc in docs):
                return {doc["_id"]: doc["status"] for doc in docs}
            # And read again, because some may have been forgotten before this.
            stale = {**which, "namedAt": {"$lt": before}}
            await self._mongo.users.update_many(stale, {"$set": {"namedAt": now()}})

    async def forget_unseen(self, job: Job) -> Progress:
        """A step of the job that removes unseen users who are in no conversation.

        Without it, every id that any request has ever named would stay a user for ever.
        """
        old = {"namedAt": {"$lt": now() - timedelta(seconds=UNSEEN_S)}}
        found = self._mongo.users.find(old, {"_id": 1}).limit(FORGOTTEN)
        user_ids = [doc["_id"] async for doc in found]
        if not user_ids:
            return Progress(again_in_s=FORGET_EVERY_S)
        members = await self._memberships.members_among(user_ids)
        # They are looked at again after a day.
        await self._mongo.users.update_many({"_id": {"$in": members}}, {"$set": {"namedAt": now()}})
        # Not those who have been named since: a conversation with them may be about to be stored.
        rest = {"_id": {"$in": user_ids}, **old}
        gone = await self._mongo.users.delete_many(rest | _NEVER_SEEN)
        # A node of an earlier version has seen or synced the others.
        await self._mongo.users.update_many(rest, {"$unset": {"namedAt": ""}})
        return Progress(gone.deleted_count)

    async def _read(self, user_ids: list[str]) -> dict[str, Document]:
        found = self._mongo.users.find({"_id": {"$in": user_ids}}, {"status": 1, "namedAt": 1})
        return {doc["_id"]: doc async for doc in found}

    async def deleted(self, user_ids: list[str]) -> list[str]:
        """Returns the deleted users among `user_ids`."""
        gone = self._mongo.users.find({"_id": {"$in": user_ids}, "status": "deleted"}, {"_id": 1})
        return [doc["_id"] async for doc in gone]

    async def _create(self, user_ids: Iterable[str], name: str | None, **more: datetime) -> None:
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
                    **more,
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
        created, deleted = await self._write({sync.user_id: [sync.changes]})
        if deleted:
            raise Conflict(DELETED)
        return SyncedUser(await self.get(sync.user_id), bool(created))

    async def sync_all(self, syncs: Mapping[int, UserSync]) -> tuple[int, Mapping[int, Conflict]]:
        """Create or update many users. Returns how many are new, and the refused syncs, by their keys.

        The syncs of one user are merged into one write, with the same result as one after another.
        """
        indexes: dict[str, list[int]] = {}
        for index, sync in syncs.items():
            indexes.setdefault(sync.user_id, []).append(index)
        changes = {
            user_id: [syncs[index].changes for index in rows] for user_id, rows in indexes.items()
        }
        created, deleted = await self._write(changes)
        # One after another, those before the one that restores the user are refused.
        rest = {user_id: [*dropwhile(_not_active, changes[user_id])] for user_id in deleted}
        await self._write({user_id: given for user_id, given in rest.items() if given})
        refused = [
            index
            for user_id, given in rest.items()
            for index in indexes[user_id][: len(changes[user_id]) - len(given)]
        ]
        return len(created), dict.fromkeys(refused, Conflict(DELETED))

    async def _write(
        self, changes: Mapping[str, Sequence[UserChanges]]
    ) -> tuple[set[str], set[str]]:
        """Create or update users. Returns the users who are new, and those who are deleted and stay so.

        The changes of a user are merged. They restore a deleted user if the first one has the status `active`.
        """
        at = now()
        created: set[str] = set()
        deleted: set[str] = set()
        left = list(changes)
        while left:
            batch, left = left[:SYNCS], left[SYNCS:]
            made, refused = await upsert_each(
                self._mongo.users, [_upsert(user_id, changes[user_id], at) for user_id in batch]
            )
            created |= made
            if refused:
                gone = await self.deleted(list(refused))
                deleted.update(user_id for user_id in gone if _not_active(changes[user_id][0]))
                # Another request has just created the others.
                left += refused - deleted
        blocked = [
            user_id
            for user_id, given in changes.items()
            if user_id not in deleted and _merged(given).get("status") == "blocked"
        ]
        why = "This user is blocked."
        await asyncio.gather(*(self._shut_out(user_id, why) for user_id in blocked))
        return created, deleted

    async def mark_deleted(self, user_id: str, session: Session) -> None:
        """Erase the user's profile. After the commit, `shut_out_deleted` must be called. Raises NotFound."""
        found = await self._mongo.users.update_one(
            {"_id": user_id},
            {
                "$set": {"status": "deleted", "name": None, "avatarUrl": None, "updatedAt": now()},
                "$unset": {"metadata": "", "namedAt": ""},
            },
            session=session,
        )
        if not found.matched_count:
            raise NotFound()

    async def shut_out_deleted(self, user_id: str) -> None:
        """Refuse the user on every node, and close the user's sockets, if the user is deleted."""
        if await self.deleted([user_id]):
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


def _not_active(given: UserChanges) -> bool:
    return given.get("status") != "active"


def _merged(changes: Iterable[UserChanges]) -> UserChanges:
    """Returns the changes as one. The last one counts."""
    merged: UserChanges = {}
    for given in changes:
        merged.update(given)
    return merged


def _upsert(user_id: str, changes: Sequence[UserChanges], at: datetime) -> Upsert:
    names = {"name": "name", "avatar_url": "avatarUrl", "status": "status", "metadata": "metadata"}
    given = {names[key]: value for key, value in _merged(changes).items()}
    if "metadata" in given:
        given["metadata"] = json_codec.encode(given["metadata"]).decode()
    defaults: Document = {"name": None, "avatarUrl": None, "status": "active", "createdAt": at}
    which: Document = {"_id": user_id}
    if _not_active(changes[0]):
        which["status"] = {"$ne": "deleted"}
    return which, {
        "$set": {**given, "updatedAt": at},
        "$setOnInsert": {key: value for key, value in defaults.items() if key not in given},
        "$unset": {"namedAt": ""},
    }


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
