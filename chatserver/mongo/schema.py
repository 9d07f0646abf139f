"""The version of the database's schema, and the steps that upgrade it.

A document of the collection `schema` holds the version, the server version that wrote it and, during a
step, the position of the step. A database without it has version 1, the schema of all servers before the first
step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from pymongo.errors import PyMongoError

from .. import __version__, tasks
from ..clock import now
from .blocks import blocks
from .failures import is_down
from .lease import ALIVE, after
from .mongo import AFTER, Document, Mongo, Session, new_id

log = structlog.get_logger(__name__)

ID = "schema"
FIRST = 1
BATCH = 500
LEASE_S = 10.0
"""A process that has not finished a batch for this long counts as dead, and another one continues its step."""
WAIT_S = 1.0
REPORT_S = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """Upgrades the schema to version `number`. `sentence` says what for.

    `change(mongo, docs, session)` changes a batch of documents of `collection`. It is called for every batch in
    the order of ids, in a transaction that also stores the position, so each document is changed once however
    often a process dies. Like any transaction it may run again after a conflict, so it must have no effects but
    its writes, and must not change ids.

    Servers of the version before run during the step and after it, and write what they always wrote. So a step
    only adds what they ignore, and this version reads both forms. What is no longer needed is removed by a step of
    a later version.
    """

    number: int
    sentence: str
    collection: str
    change: Callable[[Mongo, Sequence[Document], Session], Awaitable[None]]


async def _add_blocks(mongo: Mongo, receipts: Sequence[Document], session: Session) -> None:
    changes = {
        receipt["_id"]: {"$set": {"blocks": blocks(receipt["from"], receipt["to"])}}
        for receipt in receipts
        if "blocks" not in receipt
    }
    if changes:
        await mongo.update_each("receipts", changes, session=session)


LISTS = "lists"
"""The id of a document with `from`, since when servers of an earlier version may have written (see chat/repairs.py), and
`large`, the limit by which conversation lists are ordered (see chat/recency.py)."""
_LARGE = 200
"""The default of LARGE_CONVERSATION. A node with another value moves the order of some conversations."""


async def _order_lists(mongo: Mongo, rows: Sequence[Document], session: Session) -> None:
    """Copies the time of a conversation's last message to its participants, unless the conversation is large."""
    conversations = await mongo.conversations.aggregate(
        [
            {"$match": {"_id": {"$in": list({row["conversationId"] for row in rows})}}},
            {
                "$lookup": {
                    "from": "participants",
                    "localField": "_id",
                    "foreignField": "conversationId",
                    "pipeline": [{"$limit": _LARGE + 1}, {"$project": {"_id": 1}}],
                    "as": "rows",
                }
            },
            {"$project": {"activityAt": 1, "rows": {"$size": "$rows"}}},
        ],
        session=session,
    )
    updates: dict[str, Document] = {}
    large: dict[str, Document] = {}
    async for doc in conversations:
        if doc["rows"] > _LARGE:
            large[doc["_id"]] = {"$set": {"large": True}}
            continue
        for row in rows:
            if row["conversationId"] == doc["_id"]:
                updates[row["_id"]] = {"$set": {"activityAt": doc["activityAt"]}}
    for collection, changes in (("participants", updates), ("conversations", large)):
        if changes:
            await mongo.update_each(collection, changes, session=session)
    limit: Document = {"$set": {"large": _LARGE}}
    await mongo.schema.update_one({"_id": LISTS}, limit, upsert=True, session=session)


async def add_keys(mongo: Mongo, conversations: Sequence[Document], session: Session) -> None:
    """Store the keys of conversations that the transaction has read. It may be repeated."""
    keys = {doc["key"]: doc["_id"] for doc in conversations if "key" in doc}
    found = mongo.conversation_keys.find({"_id": {"$in": list(keys)}}, session=session)
    stored = {doc["_id"]: doc["conversationId"] async for doc in found}
    # A key may name another conversation, which a server of an earlier version has deleted.
    docs = [
        {"_id": key, "conversationId": conversation_id}
        for key, conversation_id in keys.items()
        if stored.get(key) != conversation_id
    ]
    if docs:
        await mongo.put("conversation_keys", docs, session=session)


def membership_id(user_id: str, conversation_id: str) -> str:
    return f"{user_id}:{conversation_id}"


def membership(participant: Document, order: Document) -> Document:
    """Returns the document in `memberships`. `order`: the fields by which the list of the user is ordered."""
    fields = ("userId", "conversationId", "joinedAt", "hides")
    return {
        "_id": membership_id(participant["userId"], participant["conversationId"]),
        **{key: participant[key] for key in fields if key in participant},
        **order,
    }


async def _add_memberships(mongo: Mongo, rows: Sequence[Document], session: Session) -> None:
    """Copies what is read by user, and moves the order of the lists."""
    order = {row["_id"]: {k: row[k] for k in ("activityAt",) if k in row} for row in rows}
    docs = [membership(row, order[row["_id"]]) for row in rows]
    await mongo.put("memberships", docs, session=session)
    placed = [row_id for row_id, fields in order.items() if fields]
    # A node that runs beside older ones reads lists from the rows. Without a time they are right, if slower.
    await mongo.participants.update_many(
        {"_id": {"$in": placed}}, {"$unset": {"activityAt": ""}}, session=session
    )


STEPS: list[Step] = [
    Step(2, "readers of a message are found by an index", "receipts", _add_blocks),
    Step(3, "participants have the order of their lists", "participants", _order_lists),
    Step(4, "the keys of conversations have a collection", "conversations", add_keys),
    Step(5, "the memberships of users have a collection", "participants", _add_memberships),
]
"""All steps, without a gap from FIRST + 1 on. A released step never changes."""


class NewerSchema(Exception):
    """A newer server has upgraded the database."""

    def __init__(self, state: Document) -> None:
        super().__init__(
            f"The database has schema {state['version']}, written by chatserver {state['server']}. This is"
            f" chatserver {__version__}, which knows schemas up to {newest()}. Start chatserver {state['server']} or"
            " newer, or restore a backup from before the upgrade."
        )


def newest() -> int:
    return FIRST + len(STEPS)


async def version_of(mongo: Mongo) -> int:
    """Returns the version of the database's schema. Raises NewerSchema and PyMongoError."""
    version: int = (await _state(mongo))["version"]
    return version


async def _state(mongo: Mongo) -> Document:
    state = await mongo.schema.find_one({"_id": ID}) or {"version": FIRST}
    if state["version"] > newest():
        raise NewerSchema(state)
    return state


def _log(progress: str) -> None:
    log.info("preparing the database", progress=progress)


class Migration:
    """Brings the database to the newest schema. Any number of processes may do so at the same time: one of them
    works, and the others wait for it."""

    def __init__(self, mongo: Mongo, report: Callable[[str], None] = _log) -> None:
        """`report` is called with `progress` when a step begins, and every REPORT_S."""
        self.progress = "connects to MongoDB"
        """The present work, for people."""
        self._mongo = mongo
        self._report = report
        self._me = new_id()
        self._batch = BATCH
        self._step: Step | None = None

    async def run(self) -> None:
        """Creates collections and indexes, and performs the steps. Raises NewerSchema and PyMongoError.

        If MongoDB stops to answer during the steps, waits until it does.
        """
        await _state(self._mongo)
        reporting = asyncio.create_task(self._report_regularly())
        try:
            # Before the steps, which may need them.
            await self._mongo.start(self._show)
            first = {"_id": ID, "version": FIRST, "server": __version__}
            await self._mongo.insert_missing("schema", [first])
            while await self._go_on():
                # The driver can lose a cancellation, up to Python 3.11 (gh-86296).
                if (task := asyncio.current_task()) and task.cancelling():
                    raise asyncio.CancelledError
        finally:
            await tasks.end(reporting)
        if self._step is not None:
            self._report(f"the database has schema {newest()}")

    def _show(self, progress: str) -> None:
        self.progress = progress

    async def _report_regularly(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._report(self.progress)

    async def _go_on(self) -> bool:
        """Performs one batch, or waits while another process does. Returns False if no step is left."""
        try:
            state = await _state(self._mongo)
            if state["version"] == newest():
                return False
            step = STEPS[state["version"] - FIRST]
            total = await self._mongo.size(step.collection)
            progress = (
                f"upgrades to schema {step.number} ({step.sentence}):"
                f" {state.get('done', 0):,} of about {total:,} documents"
            )
            self.progress = progress
            if step is not self._step:
                self._step = step
                self._report(progress)
            if await self._mongo.transaction(partial(self._perform, step)):
                self._batch = min(BATCH, self._batch + 1)
            else:
                self.progress = f"another process {progress}"
                await asyncio.sleep(WAIT_S)
        except PyMongoError as error:
            if not is_down(error):
                raise
            # Smaller batches, because one that takes longer than a transaction may would never end.
            self._batch = max(1, self._batch // 2)
            self.progress = f"waits for MongoDB: {type(error).__name__}"
            await asyncio.sleep(WAIT_S)
        return True

    async def _perform(self, step: Step, session: Session) -> bool:
        """Performs the next batch. Returns False if another process works on the step, or has completed it.

        The transaction changes the document of the schema, so of two processes only one can commit, even if one
        of them was frozen and does not know that it lost its lease.
        """
        schema = self._mongo.schema
        ours = {"$or": [{"$eq": ["$owner", self._me]}, {"$not": ALIVE}]}
        state = await schema.find_one_and_update(
            {"_id": ID, "version": step.number - 1, "$expr": ours},
            [{"$set": {"owner": self._me, "until": after(LEASE_S)}}],
            return_document=AFTER,
            session=session,
        )
        if state is None:
            return False
        docs = await self._mongo.page(step.collection, state.get("after"), self._batch, session)
        if docs or await self._mongo.nodes.find_one({}, {"_id": 1}, session=session):
            # Not in a new database: servers of the version before go on as always, and what they write is repaired.
            written: Document = {"$min": {"from": now()}}
            await schema.update_one({"_id": LISTS}, written, upsert=True, session=session)
        change: Document = {"$set": {"version": step.number, "server": __version__}}
        if docs:
            await step.change(self._mongo, docs, session)
            change = {"$set": {"after": docs[-1]["_id"]}, "$inc": {"done": len(docs)}}
        else:
            change["$unset"] = dict.fromkeys(("after", "done", "owner", "until"), "")
        await schema.update_one({"_id": ID}, change, session=session)
        return True
