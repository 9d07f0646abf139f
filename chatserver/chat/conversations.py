"""Conversations: create, list, edit, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .. import json_codec
from ..clock import now
from ..errors import Conflict, NotFound, ValidationFailed
from ..mongo import (
    DatabaseUnavailable,
    Document,
    DuplicateKeyError,
    Mongo,
    Session,
    new_id,
    page_cursor,
)
from ..outbox.event import OutboxRecord
from . import policy
from .announcements import Announcements
from .conversation_keys import ConversationKeys, key_of
from .deletion import ConversationDeletion
from .job import Job
from .log.entry import ConversationChange
from .log.log import Log
from .membership import Members
from .memberships import Memberships
from .outside import Outbox
from .participants import Participants, participant
from .recency import Recency
from .rosters import caller_first, counted
from .users import Users
from .views import Views


@dataclass(frozen=True, slots=True)
class OneConversation:
    conversation_id: str


@dataclass(frozen=True, slots=True)
class NewConversation:
    type: str
    participant_ids: tuple[str, ...]
    name: str | None = None
    avatar_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConversationEdit:
    """`changes` has only the fields that were given, out of name, avatar_url and metadata."""

    conversation_id: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PageOfConversations:
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Created:
    view: Mapping[str, Any]
    is_new: bool


class Conversations:
    """Creates, lists, edits and deletes conversations.

    A change is stored in one transaction with its outbox event, and announced after the commit. Changes
    of an existing conversation are entries of its log.
    """

    def __init__(
        self,
        mongo: Mongo,
        keys: ConversationKeys,
        log: Log,
        outbox: Outbox,
        memberships: Memberships,
        members: Members,
        participants: Participants,
        deletion: ConversationDeletion,
        users: Users,
        views: Views,
        recency: Recency,
        announcements: Announcements[Any],
    ) -> None:
        self._mongo = mongo
        self._keys = keys
        self._log = log
        self._outbox = outbox
        self._memberships = memberships
        self._members = members
        self._participants = participants
        self._deletion = deletion
        self._users = users
        self._views = views
        self._recency = recency
        self._announcements = announcements

    # --- create and read ------------------------------------------------------------------------

    async def create(
        self, creator_id: str, new: NewConversation, field: str = "participantIds"
    ) -> Created:
        """Create a conversation of the creator and the named users.

        Two users share one direct conversation, which is returned if it exists. `field`: the field of the
        request that names the users, for error details.
        """
        others = _without(creator_id, new.participant_ids)
        key = None
        if new.type == "direct":
            if len(others) != 1:
                raise ValidationFailed.of(
                    field, "A direct conversation has exactly two participants."
                )
            key = key_of("direct", [creator_id, *others])
        return await self._create(creator_id, others, new, key, field)

    async def direct(self, user_id: str, other_ids: Sequence[str]) -> Created:
        """Return the direct conversation of two users. Create it if there is none."""
        return await self.create(user_id, NewConversation("direct", tuple(other_ids)), "userId")

    async def private(self, user_id: str, other_ids: Sequence[str]) -> Created:
        """Return the private group of exactly these users. Create it if there is none.

        A group whose participants have changed since is no longer found here.
        """
        others = _without(user_id, other_ids)
        if not others:
            raise ValidationFailed.of("userIds", "Name at least one other user.")
        new = NewConversation("group", tuple(others))
        key = key_of("private", [user_id, *others])
        return await self._create(user_id, others, new, key, "userIds")

    async def _create(
        self,
        creator_id: str,
        others: list[str],
        new: NewConversation,
        key: str | None,
        field: str,
    ) -> Created:
        if key and (existing := await self._by_key(key, creator_id)):
            if new.type == "direct":
                existing = await self._complete(existing, [creator_id, *others], field)
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
            **counted(1 + len(others)),
        }
        own, order = self._recency.created(1 + len(others), at)
        conversation |= own
        if new.metadata:
            conversation["metadata"] = json_codec.encode(new.metadata).decode()
        if key:
            conversation["key"] = key
        conversation_id = conversation["_id"]
        owner_role = "member" if direct else "owner"
        members = [participant(conversation_id, creator_id, owner_role, at, direct=direct)]
        members += [
            participant(conversation_id, user_id, "member", at, direct=direct) for user_id in others
        ]

        async def store(session: Session) -> None:
            if key:
                await self._keys.add(key, conversation_id, session)
            await self._mongo.conversations.insert_one(conversation, session=session)
            await self._mongo.participants.insert_many(members, session=session)
            await self._memberships.add(members, order, session)
            created = OutboxRecord.of_conversation(
                "conversation.created",
                conversation_id,
                (0, 0),
                at,
                self._views.new(conversation, members),
            )
            await self._outbox.append(session, [created])

        async def announce() -> Mapping[str, Any]:
            view = await self._views.conversation(conversation_id)
            self._announcements.created(view, [creator_id, *others])
            await self._participants.without_deleted(conversation_id, [creator_id, *others])
            return view

        async def announce_if_stored() -> None:
            with suppress(NotFound):
                await announce()

        try:
            await self._mongo.transaction(store, if_unsure=announce_if_stored)
        except DuplicateKeyError as error:
            if key is None or not await self._keys.taken(key, error):
                raise
            existing = await self._by_key(key, creator_id)
            if existing is None:
                raise Conflict(
                    "Someone else has just created this conversation; try again."
                ) from None
            return Created(existing, is_new=False)
        try:
            return Created(caller_first(await announce(), creator_id), is_new=True)
        except DatabaseUnavailable:
            self._mongo.later(announce_if_stored)
            raise

    async def _complete(
        self, view: Mapping[str, Any], pair: list[str], field: str
    ) -> Mapping[str, Any]:
        """Add the users of the pair who are missing. A deleted user leaves a direct conversation, and may
        have been restored since."""
        missing = [
            user_id for user_id in pair if all(user_id != p["userId"] for p in view["participants"])
        ]
        if not missing:
            return view
        await self._users.need(missing, field)
        return await self._participants.join(pair[0], view["id"], missing, "member", direct=True)

    async def _by_key(self, key: str, reader_id: str) -> Mapping[str, Any] | None:
        conversation_id = await self._keys.find(key)
        return (
            await self._views.conversation(conversation_id, reader_id) if conversation_id else None
        )

    async def get(self, reader_id: str, conversation_id: str) -> Mapping[str, Any]:
        hides = await self._members.hiding(reader_id, conversation_id)
        return await self._views.conversation(conversation_id, reader_id, hides=hides)

    async def own(
        self, user_id: str, asked: PageOfConversations
    ) -> tuple[list[Mapping[str, Any]], str | None]:
        """Returns the user's conversations, most recently active first, and the next page's cursor."""
        await self._recency.flush()
        before = page_cursor.decode(asked.cursor) if asked.cursor is not None else None
        settled = self._recency.settled()
        docs = await self._views.own(user_id, asked.limit + 1, before, settled)
        more = len(docs) > asked.limit
        docs = docs[: asked.limit]
        last = docs[-1] if more else None
        cursor = page_cursor.encode(last["own"]["activityAt"], last["_id"]) if last else None
        return [doc["view"] for doc in docs], cursor

    # --- change ---------------------------------------------------------------------------------

    async def edit(self, actor_id: str, edit: ConversationEdit) -> Mapping[str, Any]:
        conversation_id = edit.conversation_id
        await self._members.present(actor_id, conversation_id)
        names = {"name": "name", "avatar_url": "avatarUrl", "metadata": "metadata"}
        changes = {names[key]: value for key, value in edit.changes.items()}
        if "metadata" in changes:
            changes["metadata"] = json_codec.encode(changes["metadata"]).decode()
        at = now()

        async def transaction(session: Session, offset: int, last_seq: int) -> ConversationChange:
            actor = await self._members.require(actor_id, conversation_id, session=session)
            policy.require(actor, "manageChannels")
            await self._mongo.conversations.update_one(
                {"_id": conversation_id}, {"$set": {**changes, "updatedAt": at}}, session=session
            )
            view = await self._views.conversation(conversation_id, session=session)
            return ConversationChange("conversation", at, {}, view)

        await self._log.change_conversation(conversation_id, actor_id, transaction)
        return await self.get(actor_id, conversation_id)

    async def delete(self, actor_id: str, conversation_id: str) -> bool:
        """Delete a conversation and its contents for everyone. Returns False if the background removes the rest."""
        await self._members.present(actor_id, conversation_id)
        job: Job | None = None

        async def transaction(session: Session, offset: int, last_seq: int) -> ConversationChange:
            nonlocal job
            actor = await self._members.require(actor_id, conversation_id, session=session)
            policy.require(actor, "deleteConversation")
            change, job = await self._deletion.delete(conversation_id, session)
            return change

        offset = await self._log.change_conversation(conversation_id, actor_id, transaction)
        return await self._deletion.deleted(conversation_id, offset or 0, job)


def _without(user_id: str, user_ids: Iterable[str]) -> list[str]:
    return [other_id for other_id in dict.fromkeys(user_ids) if other_id != user_id]
