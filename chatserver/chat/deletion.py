"""Deletes conversations: at once for everybody, and in the background what they leave behind.

A conversation ends with the entry `end` of its log. The rows of its participants go with it, but those of a large one
stay for a while. They no longer count: until they are gone, `Members` asks `ended`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any

from ..clock import now
from ..mongo import DEAD_RETENTION_S, RETENTION_S, Collection, Document, Mongo, Session
from ..observability.metrics import Families
from .conversation_keys import ConversationKeys
from .job import DONE, Job, Progress, job_id
from .jobs import Jobs
from .log.entry import ConversationChange
from .memberships import Memberships
from .outside import ConversationRooms
from .signals import Ended

CONVERSATION_DELETION = "conversation.deletion"
AT_ONCE = 1000
"""The most participants who are removed in the transaction of the deletion."""
BATCH = 1000
"""Documents that a step removes."""
CLEAR_AFTER_S = 5.0
CLEAR_EVERY_S = 600.0
"""How often a deleted conversation is checked for events that are still due."""
ENDED = 100_000
"""Deleted conversations that are remembered. Those of more than AT_ONCE participants are few."""


class ConversationDeletion:
    def __init__(
        self,
        mongo: Mongo,
        keys: ConversationKeys,
        memberships: Memberships,
        rooms: ConversationRooms,
        jobs: Jobs,
    ) -> None:
        self._mongo = mongo
        self._keys = keys
        self._memberships = memberships
        self._rooms = rooms
        self._jobs = jobs
        self._ended: OrderedDict[str, None] = OrderedDict()
        """Conversations that were deleted while this node ran, and whose participants were too many to be removed at
        once."""
        rooms.on(Ended, self._note_ended)

    def watch(self, metrics: Families) -> None:
        metrics.memory("deleted conversations", lambda: len(self._ended), ENDED)

    async def delete(
        self, conversation_id: str, session: Session
    ) -> tuple[ConversationChange, Job | None]:
        """Delete a conversation, as the change that a transaction of the log makes.

        Returns a job if participants are left. It must be given to `deleted` after the commit.
        """
        conversation = await self._mongo.conversations.find_one_and_delete(
            {"_id": conversation_id}, {"key": 1}, session=session
        )
        await self._keys.remove(conversation or {}, session)
        where = {"conversationId": conversation_id}
        found = self._mongo.participants.find(where, {"_id": 0, "userId": 1}, session=session)
        user_ids = [doc["userId"] async for doc in found.limit(AT_ONCE + 1)]
        job: Job | None = None
        if len(user_ids) > AT_ONCE:
            count = await self._mongo.participants.count_documents(where, session=session)
            job = await self._jobs.add(
                CONVERSATION_DELETION,
                conversation_id,
                session,
                total=count,
                state={"hasParticipants": True},
            )
        else:
            await self._mongo.participants.delete_many(where, session=session)
            await self._memberships.remove(conversation_id, user_ids, session)
            await self._jobs.add(
                CONVERSATION_DELETION, conversation_id, session, in_s=CLEAR_AFTER_S
            )
        return ConversationChange("end", now(), {"hasParticipants": True} if job else {}), job

    async def deleted(self, conversation_id: str, offset: int, job: Job | None) -> bool:
        """The deletion has been committed, at this offset. Returns False if the background has to go on.

        By then every node has taken the participants out of the room, or a second has passed.
        """
        if job is None:
            await self._rooms.confirmed(conversation_id, offset)
            return True
        ended = Ended(conversation_id)
        self._note_ended(ended)
        await asyncio.gather(
            self._rooms.confirmed(conversation_id, offset), self._rooms.signalled(ended)
        )
        return await self._jobs.finish(job)

    # --- participants of deleted conversations ----------------------------------------------------

    async def ended(self, conversation_ids: Iterable[str]) -> set[str]:
        """Returns those of the conversations that were deleted, though they may have participants."""
        if self._rooms.in_sync:
            return self._ended.keys() & conversation_ids if self._ended else set()
        ids = [
            job_id(CONVERSATION_DELETION, conversation_id) for conversation_id in conversation_ids
        ]
        found = self._mongo.jobs.find({"_id": {"$in": ids}}, {"subject": 1})
        return {doc["subject"] async for doc in found}

    async def start(self) -> None:
        """Make jobs of the deletions that nodes of an earlier version have recorded, and learn of those under way."""
        async for doc in self._mongo.ended.find({}):
            await self._mongo.transaction(partial(self._adopt, doc["_id"]))
        await self.find_ended()

    async def _adopt(self, conversation_id: str, session: Session) -> None:
        await self._jobs.add(CONVERSATION_DELETION, conversation_id, session, in_s=CLEAR_AFTER_S)
        await self._mongo.ended.delete_one({"_id": conversation_id}, session=session)

    async def find_ended(self) -> None:
        """Learn of the deletions that this node has missed."""
        having = {"kind": CONVERSATION_DELETION, "state.hasParticipants": True}
        async for doc in self._mongo.jobs.find(having, {"subject": 1}):
            self._note_ended(Ended(doc["subject"]))

    def _note_ended(self, ended: Ended) -> None:
        self._ended[ended.conversation_id] = None
        if len(self._ended) > ENDED:
            self._ended.popitem(last=False)

    # --- what a conversation leaves behind --------------------------------------------------------

    async def clear(self, job: Job) -> Progress:
        """The next step of a deletion: participants, receipts and absences, then the entries that no delivery needs."""
        conversation_id, state = job.subject, job.state
        where = {"conversationId": conversation_id}
        if state.get("hasParticipants"):
            # Again: the node that made the deletion may have died before it sent the signal.
            self._note_ended(Ended(conversation_id))
            self._rooms.signal(Ended(conversation_id), room=None)
            found = self._mongo.participants.find(where, {"userId": 1}).limit(BATCH)
            docs = [doc async for doc in found]
            if not docs:
                return Progress()
            await self._memberships.remove(conversation_id, [doc["userId"] for doc in docs])
            ids = [doc["_id"] for doc in docs]
            await self._mongo.participants.delete_many({"_id": {"$in": ids}})
            return Progress(len(docs), state)
        of_conversation = {"_id": {"$gt": f"{conversation_id}:", "$lt": f"{conversation_id};"}}
        removed = await _remove_some(self._mongo.receipts, where)
        removed += await _remove_some(self._mongo.absences, of_conversation)
        return Progress(removed) if removed else await self._let_expire(job)

    async def _let_expire(self, job: Job) -> Progress:
        """Entries are kept for replay until they expire. Then the database removes them."""
        conversation_id = job.subject
        entries = {"$gt": f"{conversation_id}-", "$lt": f"{conversation_id}."}
        due = {"_id": entries, "due": {"$exists": True}}
        if await self._mongo.log.find_one(due, {"_id": 1}):
            # Entries are the records of events, and some have not been delivered.
            return Progress(again_in_s=CLEAR_EVERY_S)
        if removed := await _remove_some(self._mongo.reactions, {"messageId": dict(entries)}):
            return Progress(removed)
        dead = await self._mongo.deadletters.find_one({"key": conversation_id}, {"_id": 1})
        expires_at = now() + timedelta(seconds=DEAD_RETENTION_S if dead else RETENTION_S)
        entries["$gt"] = job.state.get("after", entries["$gt"])
        ids = await _ids(self._mongo.log, {"_id": entries})
        await self._mongo.log.update_many(
            {"_id": {"$in": ids}}, {"$set": {"expiresAt": expires_at}}
        )
        return Progress(state={"after": ids[-1]}) if len(ids) == BATCH else DONE


async def _ids(collection: Collection, where: Document) -> list[Any]:
    found = collection.find(where, {"_id": 1}).limit(BATCH)
    return [doc["_id"] async for doc in (found.sort("_id") if "_id" in where else found)]


async def _remove_some(collection: Collection, where: Document) -> int:
    if ids := await _ids(collection, where):
        await collection.delete_many({"_id": {"$in": ids}})
    return len(ids)
