"""The participants of conversations: join, leave, roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..clock import iso, now
from ..errors import Conflict, Forbidden, NotFound
from ..mongo import Document, Mongo, Session
from ..outbox.event import OutboxRecord
from . import policy
from .absences import Absences
from .deletion import ConversationDeletion
from .log.entry import ConversationChange
from .log.log import Log
from .membership import Member, Members
from .memberships import Memberships, member_id
from .outside import ConversationRooms, Outbox
from .policy import Permission
from .rosters import Rosters
from .users import Users
from .views import Views, participant_view


@dataclass(frozen=True, slots=True)
class NewParticipants:
    conversation_id: str
    user_ids: tuple[str, ...]
    role: str = "member"


@dataclass(frozen=True, slots=True)
class RoleChange:
    conversation_id: str
    user_id: str
    role: str


@dataclass(frozen=True, slots=True)
class OneParticipant:
    conversation_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class PageOfParticipants:
    conversation_id: str
    role: str | None = None
    limit: int = 50
    cursor: str | None = None


class Participants:
    """Adds and removes participants, and changes their roles.

    A change is a log entry, stored in one transaction with its outbox events. The transaction loads the
    members and asks the policy. Its offset is that of no other entry, so of two concurrent changes the later
    one sees what the earlier one has done.
    """

    def __init__(
        self,
        mongo: Mongo,
        log: Log,
        outbox: Outbox,
        members: Members,
        memberships: Memberships,
        users: Users,
        views: Views,
        rosters: Rosters,
        deletion: ConversationDeletion,
        rooms: ConversationRooms,
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._outbox = outbox
        self._members = members
        self._memberships = memberships
        self._users = users
        self._views = views
        self._rosters = rosters
        self._deletion = deletion
        self._rooms = rooms
        self._absences = Absences(mongo)

    async def page(
        self, reader_id: str, asked: PageOfParticipants
    ) -> tuple[list[Mapping[str, Any]], str | None]:
        """Returns participants, and the cursor of the next page: the owner, the admins, the members, each in the
        order of joining."""
        await self._members.present(reader_id, asked.conversation_id)
        docs, cursor = await self._rosters.page(
            asked.conversation_id, asked.role, asked.limit, asked.cursor
        )
        return [participant_view(doc) for doc in docs], cursor

    async def add(self, actor_id: str, new: NewParticipants) -> Mapping[str, Any]:
        """Add users. Users who already participate stay as they are."""
        conversation_id = new.conversation_id
        needed: Permission = "createInvites" if new.role == "member" else "manageRoles"
        # The transaction decides. But no unknown user is created for an actor who may not add anybody.
        policy.require(await self._members.require(actor_id, conversation_id), needed)
        user_ids = list(dict.fromkeys(new.user_ids))
        await self._users.need(user_ids, "userIds")
        return await self.join(actor_id, conversation_id, user_ids, new.role, needed=needed)

    async def join(
        self,
        actor_id: str,
        conversation_id: str,
        user_ids: list[str],
        role: str,
        *,
        needed: Permission | None = None,
        direct: bool = False,
    ) -> Mapping[str, Any]:
        """`needed`: the permission that the actor needs. Without one, the actor need not participate."""
        at = now()
        added: list[str] = []
        hides = False

        async def transaction(
            session: Session, offset: int, last_seq: int
        ) -> ConversationChange | None:
            nonlocal hides
            roster = await self._members.roster(conversation_id, session, [actor_id, *user_ids])
            if needed:
                policy.require(roster[actor_id], needed)
            hides = actor_id in roster and roster[actor_id].hides
            added[:] = [user_id for user_id in user_ids if user_id not in roster]
            if not added:
                return None
            number, count, order = await self._rosters.change(
                conversation_id, at, session, joined=len(added), left=0
            )
            states = await self._absences.end(conversation_id, added, last_seq, session)
            joined = [
                participant(conversation_id, user_id, role, at, direct=direct) | states[user_id]
                for user_id in added
            ]
            await self._mongo.participants.insert_many(joined, session=session)
            await self._memberships.add(joined, order, session)
            payloads = [{**_who(conversation_id, user_id, at), "role": role} for user_id in added]
            await self._record(
                session, "participant.added", conversation_id, (offset, number), at, payloads
            )
            view = await self._views.conversation(conversation_id, session=session)
            fields: Document = {"added": added, **self._counted(count)}
            if hiding := [user_id for user_id in added if states[user_id].get("hides")]:
                fields["hiding"] = hiding
            own_views = await self._views.own_views(conversation_id, hiding, session=session)
            return ConversationChange("members", at, fields, view, own_views)

        await self._log.change_conversation(conversation_id, actor_id, transaction)
        await self.without_deleted(conversation_id, added)
        return await self._views.conversation(conversation_id, actor_id, hides=hides)

    async def without_deleted(self, conversation_id: str, user_ids: list[str]) -> None:
        """Remove users who were deleted while they joined. Their deletion may have missed this
        conversation."""
        for user_id in await self._users.deleted(user_ids) if user_ids else ():
            await self.put_out(conversation_id, user_id)

    async def remove(self, actor_id: str, conversation_id: str, user_id: str) -> None:
        """Remove a participant, or leave.

        When the owner leaves, the admin who joined first becomes the owner, or else the member who joined
        first. When the last participant leaves, the conversation is deleted.
        """
        await self._members.present(actor_id, conversation_id)
        await self._take_out(actor_id, conversation_id, user_id)

    async def put_out(
        self, conversation_id: str, user_id: str, joined_at: datetime | None = None
    ) -> None:
        """Remove a deleted user, even from a direct conversation. `joined_at`: end only the membership that began then.

        May be repeated: it then changes nothing.
        """
        try:
            await self._take_out(
                user_id, conversation_id, user_id, deleted=True, joined_at=joined_at
            )
        except NotFound:
            # The user is out already, or the conversation was deleted and its participants are being removed.
            if not await self._mongo.conversations.find_one({"_id": conversation_id}, {"_id": 1}):
                await self._mongo.participants.delete_one(
                    {"_id": member_id(conversation_id, user_id)}
                )
            await self._memberships.correct(conversation_id, [user_id])

    async def _take_out(
        self,
        actor_id: str,
        conversation_id: str,
        user_id: str,
        *,
        deleted: bool = False,
        joined_at: datetime | None = None,
    ) -> None:
        """`deleted`, `joined_at`: see `put_out`."""
        at = now()
        last = False

        async def transaction(session: Session, offset: int, last_seq: int) -> ConversationChange:
            nonlocal last
            roster = await self._members.roster(conversation_id, session, [actor_id, user_id])
            actor = roster[actor_id]
            if actor.direct and not deleted:
                raise Forbidden("A direct conversation cannot be left.")
            if user_id != actor_id:
                policy.require(actor, "kickMembers")
                if not policy.outranks(actor, roster[user_id]):
                    raise Forbidden("Your role does not allow you to remove this participant.")
            leaving = roster[user_id]
            if joined_at not in (None, leaving.doc["joinedAt"]):
                raise NotFound()
            heir = await self._members.heir(leaving, session)
            if last := heir is None:
                return (await self._deletion.delete(conversation_id, session))[0]
            number, count, _ = await self._rosters.change(
                conversation_id, at, session, joined=0, left=1
            )
            await self._mongo.participants.delete_one({"_id": leaving.doc["_id"]}, session=session)
            await self._memberships.remove(conversation_id, [user_id], session)
            await self._absences.begin(leaving, last_seq, session)
            fields: Document = {"removed": [user_id], **self._counted(count)}
            view = None
            if leaving.role == "owner":
                await self._give_role(heir, "owner", session)
                fields["roles"] = True
                view = await self._views.conversation(conversation_id, session=session)
            payload = {**_who(conversation_id, user_id, at), "removedBy": actor_id}
            await self._record(
                session, "participant.removed", conversation_id, (offset, number), at, [payload]
            )
            return ConversationChange("members", at, fields, view)

        offset = await self._log.change_conversation(conversation_id, actor_id, transaction)
        # The caller's reply means that the removed user receives nothing more, on any node. The sockets of a deleted user
        # are closed.
        if not deleted:
            await self._rooms.confirmed(conversation_id, offset or 0)

    async def change_role(self, actor_id: str, change: RoleChange) -> Mapping[str, Any]:
        """Change the role of a participant. Making another user the owner makes the actor an admin."""
        conversation_id, user_id = change.conversation_id, change.user_id
        await self._members.present(actor_id, conversation_id)
        at = now()
        changed: Document = {}

        async def transaction(
            session: Session, offset: int, last_seq: int
        ) -> ConversationChange | None:
            roster = await self._members.roster(conversation_id, session, [actor_id, user_id])
            actor = roster[actor_id]
            policy.require(actor, "manageRoles")
            target = roster[user_id]
            changed.update(target.doc, role=change.role)
            if user_id == actor_id:
                if change.role == actor.role:
                    return None
                raise Conflict("Make someone else the owner first.")
            if not policy.outranks(actor, target):
                raise Forbidden()
            await self._mongo.conversations.update_one(
                {"_id": conversation_id}, {"$set": {"updatedAt": at}}, session=session
            )
            if change.role == "owner":
                await self._give_role(actor, "admin", session)
            await self._give_role(target, change.role, session)
            view = await self._views.conversation(conversation_id, session=session)
            return ConversationChange("members", at, {"roles": True}, view)

        await self._log.change_conversation(conversation_id, actor_id, transaction)
        return participant_view(changed)

    def _counted(self, participants: int) -> Document:
        """Returns the fields of a log entry that tell the number of participants after the change."""
        counted: Document = {"count": participants}
        if self._rosters.is_large(participants):
            counted["large"] = True
        return counted

    async def _give_role(self, member: Member, role: str, session: Session) -> None:
        await self._mongo.participants.update_one(
            {"_id": member.doc["_id"]}, {"$set": {"role": role}}, session=session
        )

    async def _record(
        self,
        session: Session,
        event_type: str,
        conversation_id: str,
        position: tuple[int, int],
        at: datetime,
        payloads: Sequence[Mapping[str, Any]],
    ) -> None:
        offset, number = position
        await self._outbox.append(
            session,
            [
                OutboxRecord.of_conversation(
                    event_type, conversation_id, (offset, number + n), at, payload
                )
                for n, payload in enumerate(payloads)
            ],
        )


def participant(
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
