"""The client, the collections, and the operations for which the driver itself is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, TypeVar

import pymongo
import structlog
from bson import ObjectId
from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from .failures import DEADLINE_S
from .indexes import INDEXES
from .operations import Operations, Timed

log = structlog.get_logger(__name__)

AFTER = ReturnDocument.AFTER
"""For `find_one_and_update`: return what it is by then."""

T = TypeVar("T")
Document = dict[str, Any]
Collection = AsyncCollection[Document]
Session = AsyncClientSession
Changes = AsyncChangeStream[Document]

CLOSE_S = 2.0

CHANGES_AWAIT_MS = 10_000
"""How long the database holds a question for changes when there are none."""
CHANGES_BATCH = 500

RETENTION_S = 7 * 24 * 3600
"""Records of past changes and events are kept this long for replay."""

DEAD_RETENTION_S = 30 * 24 * 3600
"""Events that were given up, for whoever is to replay them."""


class Mongo:
    """The database of the server. `start` makes collections and indexes; `close` ends the client."""

    def __init__(self, url: str, database: str, operations: Operations | None = None) -> None:
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(
            url,
            appname="chatserver",
            serverSelectionTimeoutMS=int(DEADLINE_S * 1000),
            connectTimeoutMS=2000,
            maxPoolSize=64,
            w="majority",
            journal=True,
            readConcernLevel="majority",
        )
        self._database = self._client[database]
        self._operations = operations or Operations()
        self.log = self._collection("log")
        self.conversations = self._collection("conversations")
        self.participants = self._collection("participants")
        self.receipts = self._collection("receipts")
        self.users = self._collection("users")
        self.outbox = self._collection("outbox")
        self.holds = self._collection("holds")
        self.deadletters = self._collection("deadletters")
        self.relays = self._collection("relays")
        self.nodes = self._collection("nodes")
        self.ended = self._collection("ended")
        """Conversations that were deleted and are not cleared away yet."""

    def _collection(self, name: str) -> Collection:
        return Timed(self._database, name, self._operations)

    async def start(self) -> None:
        existing = set(await self._database.list_collection_names())
        for name, indexes in INDEXES.items():
            if name not in existing:
                with _already_there():
                    # The driver's own check raises another error when it finds what was just made.
                    await self._database.create_collection(name, check_exists=False)
            if indexes:
                await self._database[name].create_indexes(indexes)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._client.close()
        except TimeoutError:
            # It says good-bye to the server first, which may not be listening.
            log.warning("the database did not answer at the end")

    async def ping(self) -> None:
        """Answers when the database can be written to. Raises PyMongoError."""
        with pymongo.timeout(2.0):
            await self._client.admin.command("ping", read_preference=pymongo.ReadPreference.PRIMARY)

    async def now(self) -> datetime:
        """By the clock of the database."""
        hello = await self._client.admin.command(
            "hello", read_preference=pymongo.ReadPreference.PRIMARY
        )
        now: datetime = hello["localTime"]
        return now

    async def transaction(self, body: Callable[[Session], Awaitable[T]]) -> T:
        """Run `body` in a transaction and commit it; all of it or nothing is stored.

        `body` runs again after a transient conflict, so it may have no other effect than its writes.
        """
        with pymongo.timeout(DEADLINE_S):
            async with self._client.start_session() as session:
                return await self._operations.timed("transaction", session.with_transaction(body))

    async def insert_missing(self, collection: str, docs: list[Document]) -> None:
        """Insert those documents whose ids are not there yet."""
        await self._collection(collection).bulk_write(
            [
                pymongo.UpdateOne({"_id": doc["_id"]}, {"$setOnInsert": doc}, upsert=True)
                for doc in docs
            ],
            ordered=False,
        )

    async def presence_of(self, user_ids: list[str], session: Session) -> list[Document]:
        """Where those of the users are who are known, in an order that is the same for everybody."""
        fields = ["on", "presenceChanges", "lastSeenAt"]
        found = self.users.find({"_id": {"$in": user_ids}}, fields, session=session)
        return [doc async for doc in found.sort("_id")]

    async def set_presence(self, docs: list[Document], turned: set[str], session: Session) -> None:
        """Record what `presence_of` gave, after changes; `on` is kept only while it has something in it.

        Of those who `turned` the time is kept, by the database's clock.
        """
        updates: list[pymongo.UpdateOne] = []
        for doc in docs:
            fields = {key: value for key, value in doc.items() if key not in ("_id", "on")}
            change: Document = {"$set": fields | {"on": doc["on"]}}
            if not doc["on"]:
                change = {"$set": fields, "$unset": {"on": ""}}
            if doc["_id"] in turned:
                change["$currentDate"] = {"presenceAt": True}
            updates.append(pymongo.UpdateOne({"_id": doc["_id"]}, change))
        if updates:
            await self.users.bulk_write(updates, ordered=False, session=session)

    async def raise_dates(self, collection: str, field: str, dates: Mapping[str, datetime]) -> None:
        """Set a date field of many documents, by id, where the new date is later."""
        await self._collection(collection).bulk_write(
            [
                pymongo.UpdateOne({"_id": doc_id}, {"$max": {field: at}})
                for doc_id, at in dates.items()
            ],
            ordered=False,
        )

    async def put(
        self, collection: str, docs: list[Document], *, session: Session | None = None
    ) -> None:
        """Store documents, in the place of those with their ids."""
        await self._collection(collection).bulk_write(
            [pymongo.ReplaceOne({"_id": doc["_id"]}, doc, upsert=True) for doc in docs],
            ordered=False,
            session=session,
        )

    async def remove(self, collection: str, ids: list[str]) -> None:
        await self._collection(collection).delete_many({"_id": {"$in": ids}})

    async def not_due(
        self,
        collection: str,
        ids: list[str],
        slots: list[str],
        *,
        expires_at: datetime | None,
        session: Session | None = None,
    ) -> None:
        """Take slots out of `due`; what is due nowhere then loses the field, and expires."""
        # Most are due nowhere else: to compute what is left costs the database twice as much.
        only: Document = {"$unset": {"due": ""}}
        if expires_at is not None:
            only["$set"] = {"expiresAt": expires_at}
        done = await self._collection(collection).update_many(
            {"_id": {"$in": ids}, "due": {"$in": slots, "$size": 1}}, only, session=session
        )
        if done.matched_count == len(ids):
            return
        none_left = {"$eq": ["$due", []]}
        last: Document = {"due": {"$cond": [none_left, "$$REMOVE", "$due"]}}
        if expires_at is not None:
            last["expiresAt"] = {"$cond": [none_left, expires_at, "$$REMOVE"]}
        await self._collection(collection).update_many(
            # Not without `due`: the difference would be null, and null would be due.
            {"_id": {"$in": ids}, "due": {"$in": slots}},
            [{"$set": {"due": {"$setDifference": ["$due", slots]}}}, {"$set": last}],
            session=session,
        )

    async def due_again(
        self,
        collection: str,
        ids: Mapping[tuple[str, ...], list[str]],
        *,
        also: list[str],
        expires_at: datetime,
    ) -> None:
        """Put slots into `due`: those of a key for the ids that it has.

        Where a date of expiry is set, on them and on `also`, it becomes `expires_at`.
        """
        kept = [*also, *(doc_id for doc_ids in ids.values() for doc_id in doc_ids)]
        await self._collection(collection).bulk_write(
            [
                pymongo.UpdateMany(
                    {"_id": {"$in": kept}, "expiresAt": {"$exists": True}},
                    {"$set": {"expiresAt": expires_at}},
                ),
                *(
                    pymongo.UpdateMany(
                        {"_id": {"$in": doc_ids}}, {"$addToSet": {"due": {"$each": list(slots)}}}
                    )
                    for slots, doc_ids in ids.items()
                ),
            ]
        )

    async def remove_unchanged(self, collection: str, docs: list[Document]) -> None:
        """Remove documents that still have these values."""
        await self._collection(collection).bulk_write(
            [pymongo.DeleteOne(doc) for doc in docs], ordered=False
        )

    async def first_records(
        self, where: Document, limit: int
    ) -> tuple[list[Document], list[Document]]:
        """The first by id of the log and of the outbox, `limit` of each, as of one moment."""
        first: list[Document] = [{"$match": where}, {"$sort": {"_id": 1}}, {"$limit": limit}]
        other = {"coll": "outbox", "pipeline": [*first, {"$set": {"inOutbox": True}}]}
        log = self.log.with_options(read_concern=ReadConcern("snapshot"))
        cursor = await log.aggregate([*first, {"$unionWith": other}])
        both: tuple[list[Document], list[Document]] = ([], [])
        async for doc in cursor:
            both[doc.pop("inOutbox", False)].append(doc)
        return both

    @asynccontextmanager
    async def changes(self, pipeline: list[Document]) -> AsyncIterator[Changes]:
        """What a majority has from now on, in the order of commits: what is not told of here is seen by
        whoever reads from now on. Raises PyMongoError."""
        async with await self._database.watch(
            pipeline, max_await_time_ms=CHANGES_AWAIT_MS, batch_size=CHANGES_BATCH
        ) as stream:
            # It begins behind all that the primary has, and a read ends with what a majority has: what
            # was on its way from the one to the other would be in neither.
            await self._majority_has_all()
            yield stream

    async def _majority_has_all(self) -> None:
        """Return when a majority has what the primary has now."""
        with pymongo.timeout(DEADLINE_S):
            async with self._client.start_session(causal_consistency=True) as session:
                # Says what is the last that the primary has; the read waits for that.
                await self._client.admin.command(
                    "ping", session=session, read_preference=pymongo.ReadPreference.PRIMARY
                )
                await self.relays.find_one({}, {"_id": 1}, session=session)


@contextmanager
def _already_there() -> Iterator[None]:
    """Another node may be starting on the same empty database."""
    try:
        yield
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists
            raise


def replace_one(doc: Document) -> pymongo.ReplaceOne[Document]:
    """Put `doc` in the place of the document with its id, as part of a bulk write."""
    return pymongo.ReplaceOne({"_id": doc["_id"]}, doc)


def new_id() -> str:
    """24 hexadecimal characters; later ids sort after earlier ones of the same process."""
    return str(ObjectId())
