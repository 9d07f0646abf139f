"""Conversations and their participants: create, list, change, end; join, leave, roles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import wire
from ..clock import from_unix, iso, now, unix_ms
from ..errors import Conflict, Forbidden, NotFound, ValidationFailed
from ..mongo import RETENTION_S, Document, DuplicateKeyError, Mongo, Session, duplicate_of, new_id
from ..outbox.outbox import Outbox
from ..requests import (
    ConversationEdit,
    NewConversation,
    NewParticipants,
    PageOfConversations,
    RoleChange,
)
from .log.log import Log
from .members import Member, Members, member_id
from .recency import Recency
from .rooms import Rooms
from .users import Users
from .views import Views, participant_view


@dataclass(frozen=True, slots=True)
class Created:
    view: Mapping[str, Any]
    is_new: bool


class Conversations:
    """Changes are stored with their outbox events in one transaction, and announced after it.

    Every transaction that changes who participates also writes the conversation's own document, so
    that two at the same time cannot both go by the state before them.
    """

    def __init__(
        self,
        mongo: Mongo,
        log: Log,
        outbox: Outbox,
        members: Members,
        users: Users,
        views: Views,
        recency: Recency,
        rooms: Rooms,
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._outbox = outbox
        self._members = members
        self._users = users
        self._views = views
        self._recency = recency
        self._rooms = rooms

    # --- create and read ------------------------------------------------------------------------

    async def create(
        self, creator_id: str, new: NewConversation, field: str = "participantIds"
    ) -> Created:
        """A new conversation of the creator and the named users; an existing one for a known pair.

        `field`: where the caller named them, for refusals.
        """
        others = _without(creator_id, new.participant_ids)
        key = None
        if new.type == "direct":
            if len(others) != 1:
                raise ValidationFailed.of(field, "A direct conversation has exactly two people.")
            key = _key("direct", [creator_id, *others])
        return await self._create(creator_id, others, new, key, field)

    async def direct(self, user_id: str, other_ids: Sequence[str]) -> Created:
        """The one direct conversation of two users, created if there is none yet."""
        return await self.create(user_id, NewConversation("direct", tuple(other_ids)), "userId")

    async def private(self, user_id: str, other_ids: Sequence[str]) -> Created:
        """The one private group of exactly these users, created if there is none yet.

        It stays theirs until somebody is added or removed.
        """
        others = _without(user_id, other_ids)
        if not others:
            raise ValidationFailed.of("userIds", "Name somebody else.")
        new = NewConversation("group", tuple(others))
        key = _key("private", [user_id, *others])
        return await self._create(user_id, others, new, key, "userIds")

    async def _create(
        self,
        creator_id: str,
        others: list[str],
        new: NewConversation,
        key: str | None,
        field: str,
    ) -> Created:
        if key and (existing := await self._by_key(key)):
            return Created(existing, is_new=False)
        await self._users.need(others, field)
        at = now()
        direct = new.type == "direct"
        conversation: Document = {
            "_id": new_id(),
            "type": new.type,
            "name": new.name,
            "avatarUrl": new.avatar_url,
            "createdBy": creator_id,
            "createdAt": at,
            "updatedAt": at,
            "activityAt": at,
        }
        if new.metadata:
            conversation["metadata"] = wire.encode(new.metadata).decode()
        if key:
            conversation["key"] = key
        conversation_id = conversation["_id"]
        owner_role = "member" if direct else "owner"
        members = [_participant(conversation_id, creator_id, owner_role, at, direct=direct)]
        members += [
            _participant(conversation_id, one, "member", at, direct=direct) for one in others
        ]

        async def store(session: Session) -> None:
            await self._mongo.conversations.insert_one(conversation, session=session)
            await self._mongo.participants.insert_many(members, session=session)
            await self._outbox.append(
                session,
                "conversation.created",
                conversation_id,
                at,
                [
                    {
                        "id": conversation_id,
                        "type": new.type,
                        "name": new.name,
                        "avatarUrl": new.avatar_url,
                        "metadata": new.metadata,
                        "createdBy": creator_id,
                        "createdAt": iso(at),
                        "updatedAt": iso(at),
                        "participantCount": len(members),
                        "participants": [participant_view(one) for one in members],
                    }
                ],
            )

        try:
            await self._mongo.transaction(store)
        except DuplicateKeyError as error:
            if duplicate_of(error) != "key" or key is None:
                raise
            existing = await self._by_key(key)
            if existing is None:
                raise Conflict("Just created by someone else; try again.") from None
            return Created(existing, is_new=False)
        self._rooms.admit(conversation_id, [creator_id, *others])
        view = await self._view(conversation_id)
        self._rooms.emit(conversation_id, "conversation:new", view)
        return Created(view, is_new=True)

    async def _by_key(self, key: str) -> Mapping[str, Any] | None:
        doc = await self._mongo.conversations.find_one({"key": key}, {"_id": 1})
        return await self._views.one(doc["_id"]) if doc else None

    async def _view(self, conversation_id: str, hider_id: str | None = None) -> Mapping[str, Any]:
        view = await self._views.one(conversation_id, hider_id)
        if view is None:
            raise NotFound()
        return view

    async def get(self, reader_id: str, conversation_id: str) -> Mapping[str, Any]:
        hides = await self._members.hiding(reader_id, conversation_id)
        return await self._view(conversation_id, reader_id if hides else None)

    async def own(
        self, user_id: str, asked: PageOfConversations
    ) -> tuple[list[Mapping[str, Any]], str | None]:
        """One's conversations, the most recently active first, and the cursor of the next page."""
        await self._recency.flush()
        docs = await self._views.own(user_id, asked.limit + 1, _cursor(asked.cursor))
        more = len(docs) > asked.limit
        docs = docs[: asked.limit]
        last = docs[-1] if more else None
        return [doc["view"] for doc in docs], _cursor_after(last) if last else None

    # --- change ---------------------------------------------------------------------------------

    async def edit(self, actor_id: str, edit: ConversationEdit) -> Mapping[str, Any]:
        (await self._members.require(actor_id, edit.conversation_id)).need("admin")
        names = {"name": "name", "avatar_url": "avatarUrl", "metadata": "metadata"}
        changes = {names[key]: value for key, value in edit.changes.items()}
        if "metadata" in changes:
            changes["metadata"] = wire.encode(changes["metadata"]).decode()
        await self._mongo.conversations.update_one(
            {"_id": edit.conversation_id}, {"$set": {**changes, "updatedAt": now()}}
        )
        return await self._updated(edit.conversation_id)

    async def _updated(self, conversation_id: str) -> Mapping[str, Any]:
        view = await self._view(conversation_id)
        self._rooms.emit(conversation_id, "conversation:updated", view)
        return view

    async def delete(self, actor_id: str, conversation_id: str) -> None:
        """End a conversation for all; what is in it goes with it."""
        (await self._members.require(actor_id, conversation_id)).need("owner")
        await self._end(actor_id, conversation_id)

    async def _end(self, actor_id: str, conversation_id: str) -> None:
        user_ids = await self._members.users_of(conversation_id)
        at = now()

        async def also(session: Session) -> None:
            await self._mongo.conversations.delete_one({"_id": conversation_id}, session=session)
            await self._mongo.participants.delete_many(
                {"conversationId": conversation_id}, session=session
            )
            payload = {
                "conversationId": conversation_id,
                "deletedBy": actor_id,
                "deletedAt": iso(at),
            }
            await self._outbox.append(
                session, "conversation.deleted", conversation_id, at, [payload]
            )

        await self._log.end(conversation_id, actor_id, also)
        self._rooms.expel(conversation_id, user_ids)
        for user_id in user_ids:
            self._rooms.emit_to(
                user_id, "conversation:removed", {"conversationId": conversation_id}
            )
        # The entries stay a while for the webhooks that tell of them, then the database drops them.
        await self._mongo.log.update_many(
            {"_id": {"$gt": f"{conversation_id}-", "$lt": f"{conversation_id}."}},
            {"$set": {"expiresAt": at + timedelta(seconds=RETENTION_S)}},
        )
        await self._mongo.receipts.delete_many({"conversationId": conversation_id})

    # --- participants ---------------------------------------------------------------------------

    async def add(self, actor_id: str, new: NewParticipants) -> Mapping[str, Any]:
        """Add users; those who participate already stay as they are."""
        conversation_id = new.conversation_id
        actor = await self._members.require(actor_id, conversation_id)
        actor.need("owner" if new.role == "admin" else "admin")
        user_ids = list(dict.fromkeys(new.user_ids))
        await self._users.need(user_ids, "userIds")
        at = now()

        async def store(session: Session) -> list[str]:
            present = {
                doc["userId"]
                async for doc in self._mongo.participants.find(
                    {"_id": {"$in": [member_id(conversation_id, one) for one in user_ids]}},
                    session=session,
                )
            }
            added = [one for one in user_ids if one not in present]
            if added:
                await self._touch(conversation_id, at, session)
                await self._mongo.participants.insert_many(
                    [_participant(conversation_id, one, new.role, at) for one in added],
                    session=session,
                )
                payloads = [{**_who(conversation_id, one, at), "role": new.role} for one in added]
                await self._outbox.append(
                    session, "participant.added", conversation_id, at, payloads
                )
            return added

        added = await self._mongo.transaction(store)
        # Into the room first, the position read second: what comes between is heard live.
        self._rooms.admit(conversation_id, added)
        view = await self._view(conversation_id)
        for user_id in added:
            self._rooms.emit_to(user_id, "conversation:joined", view)
        for user_id in added:
            self._rooms.emit(
                conversation_id, "participant:added", _who(conversation_id, user_id, at)
            )
        return view

    async def remove(self, actor_id: str, conversation_id: str, user_id: str) -> None:
        """Remove a user, or leave. An owner who leaves is succeeded by the longest-standing admin,
        else member; the last one to leave ends the conversation."""
        actor = await self._members.require(actor_id, conversation_id)
        if actor.direct:
            raise Forbidden("A direct conversation cannot be left.")
        if user_id != actor_id:
            actor.need("admin")
            target = await self._members.require(user_id, conversation_id)
            if target.role == "owner" or (target.role == "admin" and actor.role != "owner"):
                raise Forbidden("Your role does not allow to remove this participant.")
        await self._take_out(actor_id, conversation_id, user_id)

    async def leave_all(self, user_id: str) -> None:
        """Take a user who was deleted out of every conversation, direct ones included."""
        for conversation_id in await self._members.conversations_of(user_id):
            await self._take_out(user_id, conversation_id, user_id)

    async def _take_out(self, actor_id: str, conversation_id: str, user_id: str) -> None:
        at = now()

        async def store(session: Session) -> tuple[bool, bool]:
            members = [
                Member(doc)
                async for doc in self._mongo.participants.find(
                    {"conversationId": conversation_id}, session=session
                ).sort([("joinedAt", 1), ("userId", 1)])
            ]
            leaving = next((one for one in members if one.user_id == user_id), None)
            if leaving is None:
                raise NotFound()
            rest = [one for one in members if one is not leaving]
            if not rest:
                return True, False
            await self._touch(conversation_id, at, session)
            await self._mongo.participants.delete_one({"_id": leaving.doc["_id"]}, session=session)
            succession = leaving.role == "owner"
            if succession:
                heir = next((one for one in rest if one.role == "admin"), rest[0])
                await self._mongo.participants.update_one(
                    {"_id": heir.doc["_id"]}, {"$set": {"role": "owner"}}, session=session
                )
            payload = {**_who(conversation_id, user_id, at), "removedBy": actor_id}
            await self._outbox.append(
                session, "participant.removed", conversation_id, at, [payload]
            )
            return False, succession

        was_last, succession = await self._mongo.transaction(store)
        if was_last:
            await self._end(actor_id, conversation_id)
            return
        self._rooms.expel(conversation_id, [user_id])
        self._rooms.emit_to(user_id, "conversation:removed", {"conversationId": conversation_id})
        self._rooms.emit(conversation_id, "participant:removed", _who(conversation_id, user_id, at))
        if succession:
            await self._updated(conversation_id)

    async def change_role(self, actor_id: str, change: RoleChange) -> Mapping[str, Any]:
        """Give a participant another role. Making someone the owner makes the actor an admin."""
        actor = await self._members.require(actor_id, change.conversation_id)
        actor.need("owner")
        target = await self._members.require(change.user_id, change.conversation_id)
        if target.user_id == actor_id:
            if change.role == "owner":
                return participant_view(target.doc)
            raise Conflict("Make someone else the owner first.")

        async def store(session: Session) -> None:
            await self._touch(change.conversation_id, now(), session, same_people=True)
            # Found with the role that was seen: whoever was quicker wins, and this one is told.
            mine = await self._mongo.participants.update_one(
                {"_id": actor.doc["_id"], "role": "owner"},
                {"$set": {"role": "admin" if change.role == "owner" else "owner"}},
                session=session,
            )
            if not mine.matched_count:
                raise Forbidden()
            theirs = await self._mongo.participants.update_one(
                {"_id": target.doc["_id"]}, {"$set": {"role": change.role}}, session=session
            )
            if not theirs.matched_count:
                raise NotFound()

        await self._mongo.transaction(store)
        await self._updated(change.conversation_id)
        return participant_view({**target.doc, "role": change.role})

    async def _touch(
        self, conversation_id: str, at: datetime, session: Session, *, same_people: bool = False
    ) -> None:
        update: Document = {"$set": {"updatedAt": at}}
        direct_stays = {"_id": conversation_id}
        if not same_people:
            # It is no longer the private group of exactly the people that it was made for.
            await self._mongo.conversations.update_one(
                {"_id": conversation_id, "type": {"$ne": "direct"}},
                {"$unset": {"key": ""}},
                session=session,
            )
        touched = await self._mongo.conversations.update_one(direct_stays, update, session=session)
        if not touched.matched_count:
            raise NotFound()


def _without(user_id: str, user_ids: Iterable[str]) -> list[str]:
    return [one for one in dict.fromkeys(user_ids) if one != user_id]


def _key(kind: str, user_ids: Iterable[str]) -> str:
    """The same for the same set of people, whoever asks; of a fixed size, for the unique index."""
    return f"{kind}:{hashlib.sha256(wire.encode(sorted(user_ids))).hexdigest()}"


def _participant(
    conversation_id: str, user_id: str, role: str, at: datetime, *, direct: bool = False
) -> Document:
    doc: Document = {
        "_id": member_id(conversation_id, user_id),
        "conversationId": conversation_id,
        "userId": user_id,
        "role": role,
        "joinedAt": at,
        "lastReadSeq": 0,
    }
    if direct:
        doc["direct"] = True
    return doc


def _who(conversation_id: str, user_id: str, at: datetime) -> dict[str, Any]:
    return {"conversationId": conversation_id, "userId": user_id, "timestamp": iso(at)}


def _cursor(text: str | None) -> tuple[datetime, str] | None:
    if text is None:
        return None
    stamp, _, last_id = text.partition(".")
    if not (stamp.isdecimal() and len(stamp) <= 14 and last_id):
        raise ValidationFailed.of("cursor", "Not a cursor of this list.")
    return from_unix(int(stamp) / 1000), last_id


def _cursor_after(doc: Document) -> str:
    return f"{unix_ms(doc['activityAt'])}.{doc['_id']}"
