"""The client, the collections, and the operations that need the driver itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import pymongo
import structlog
from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from ..observability.metrics import Families
from . import driver_waits
from .failures import deadline
from .indexes import INDEXES
from .operations import SLOTS, Client, Operations, Timed
from .ordered_insert import OrderedInsert
from .transactions import Transactions

log = structlog.get_logger(__name__)

AFTER = ReturnDocument.AFTER
"""For `find_one_and_update`: return the document as it is after the update."""

Document = dict[str, Any]
Collection = AsyncCollection[Document]
Session = AsyncClientSession
Changes = AsyncChangeStream[Document]

CLOSE_S = 2.0

CHANGES_AWAIT_MS = 10_000
"""How long the database holds a request for changes while there are none."""
CHANGES_BATCH = 500

RETENTION_S = 7 * 24 * 3600
"""How long records of past changes and events are kept for replay."""

DEAD_RETENTION_S = 30 * 24 * 3600
"""How long dead letters are kept for replay."""

driver_waits.replace()


class Mongo:
    """The server's database. `start` creates collections and indexes; `close` closes the client."""

    def __init__(
        self,
        url: str,
        database: str,
        operations: Operations | None = None,
    ) -> None:
        self._operations = operations or Operations()
        self.timeout_s = self._operations.timeout_s
        """The limit for every operation, retries by the driver included."""
        self._client = Client(
            url,
            appname="chatserver",
            serverSelectionTimeoutMS=int(self.timeout_s * 1000),
            connectTimeoutMS=2000,
            # `Operations` limits the work, and its queue is fair.
            maxPoolSize=None,
            maxConnecting=2 * SLOTS,
            w="majority",
            journal=True,
            readConcernLevel="majority",
        )
        self._database = self._client[database]
        self._transactions = Transactions(self._client, self._operations)
        self.transaction = self._transactions.run
        """Run writes of which either all are stored or none (see Transactions.run)."""
        self.later = self._transactions.later
        """Run work in the background until the database answers."""
        self.log = self._collection("log")
        self.log_inserts = OrderedInsert(self._client, self.log, self._majority_has_all)
        self.conversations = self._collection("conversations")
        self.conversation_keys = self._collection("conversation_keys")
        self.participants = self._collection("participants")
        self.memberships = self._collection("memberships")
        self.snapshots = {
            name: Timed(self._database, name, self._operations, ReadConcern("snapshot"))
            for name in ("participants", "memberships")
        }
        """Collections for reads in several stages, which must see one state of the database."""
        self.absences = self._collection("absences")
        self.receipts = self._collection("receipts")
        self.reactions = self._collection("reactions")
        self.users = self._collection("users")
        self.outbox = self._collection("outbox")
        self.holds = self._collection("holds")
        self.deadletters = self._collection("deadletters")
        self.relays = self._collection("relays")
        self.nodes = self._collection("nodes")
        self.jobs = self._collection("jobs")
        self.ended = self._collection("ended")
        """Deleted conversations, as nodes of earlier versions record them. They become jobs."""
        self.schema = self._collection("schema")

    def watch(self, metrics: Families) -> None:
        self._transactions.watch(metrics)
        self._operations.watch(metrics)

    def _collection(self, name: str) -> Timed:
        return Timed(self._database, name, self._operations)

    async def start(self, show: Callable[[str], None] = lambda progress: None) -> None:
        """Create the collections and indexes that do not exist yet. `show` is called with what is done next."""
        existing = set(await self._database.list_collection_names())
        for name, indexes in INDEXES.items():
            if name not in existing:
                with _already_there():
                    # The driver's own check would raise another error for an existing collection.
                    await self._database.create_collection(name, check_exists=False)
            if indexes:
                show(f"builds the indexes of {name}")
                await self._database[name].create_indexes(indexes)

    @property
    def stalled(self) -> bool:
        """True if operations wait, and none has succeeded for a long time (see Operations)."""
        return self._operations.stalled

    async def close(self) -> None:
        self._transactions.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._client.close()
        except TimeoutError:
            # The driver first ends its sessions on the server, which may not answer.
            log.warning("the database did not answer while its client was closed")

    def deadline(self, seconds: float | None = None) -> AbstractAsyncContextManager[None]:
        """Limits the time of the database calls in a block, by default to `timeout_s` (see `failures.deadline`)."""
        return deadline(self.timeout_s if seconds is None else seconds)

    async def ping(self) -> None:
        """Return when the primary replies, so the database can be written to. Raises PyMongoError."""
        with pymongo.timeout(2.0):
            await self._client.admin.command("ping", read_preference=pymongo.ReadPreference.PRIMARY)

    async def now(self) -> datetime:
        """Returns the time of the database's clock."""
        hello = await self._client.admin.command(
            "hello", read_preference=pymongo.ReadPreference.PRIMARY
        )
        now: datetime = hello["localTime"]
        return now

    async def insert_missing(self, collection: str, docs: list[Document]) -> None:
        """Insert the documents whose ids do not exist yet."""
        await self._collection(collection).bulk_write(
            [
                pymongo.UpdateOne({"_id": doc["_id"]}, {"$setOnInsert": doc}, upsert=True)
                for doc in docs
            ],
            ordered=False,
        )

    async def size(self, collection: str) -> int:
        """Returns about how many documents the collection has."""
        return await self._database[collection].estimated_document_count()

    async def page(
        self, collection: str, after: str | None, limit: int, session: Session
    ) -> list[Document]:
        """Returns the first documents with a higher id than `after`, by id; with None, from the first one on."""
        where = {} if after is None else {"_id": {"$gt": after}}
        found = self._collection(collection).find(where, session=session)
        return [doc async for doc in found.sort("_id").limit(limit)]

    async def presence_of(self, user_ids: list[str], session: Session) -> list[Document]:
        """Returns the presence fields of the users who exist, sorted by id on every node."""
        fields = ["on", "presenceChanges", "lastSeenAt"]
        found = self.users.find({"_id": {"$in": user_ids}}, fields, session=session)
        return [doc async for doc in found.sort("_id")]

    async def set_presence(self, docs: list[Document], turned: set[str], session: Session) -> None:
        """Store changed documents of `presence_of`. An empty `on` is removed.

        `turned`: the users who came online or went offline. Their `presenceAt` becomes the database's time.
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

    async def update_each(
        self, collection: str, updates: Mapping[str, Document], *, session: Session | None = None
    ) -> None:
        """Update many documents, by id, each in its own way."""
        await self._collection(collection).bulk_write(
            [pymongo.UpdateOne({"_id": doc_id}, update) for doc_id, update in updates.items()],
            ordered=False,
            session=session,
        )

    async def raise_dates(self, collection: str, field: str, dates: Mapping[str, datetime]) -> None:
        """Set a date field of many documents, by id, where the new date is later."""
        await self.update_each(
            collection, {doc_id: {"$max": {field: at}} for doc_id, at in dates.items()}
        )

    async def raise_dates_of(
        self, collection: str, key: str, field: str, dates: Mapping[str, datetime], limit_s: float
    ) -> None:
        """Set a date field of all documents whose `key` is in `dates`, where they have an earlier date. Documents
        without the field stay as they are. The database gives up after `limit_s`, for example at a locked document.
        """
        with pymongo.timeout(limit_s):
            await self._collection(collection).bulk_write(
                [
                    pymongo.UpdateMany({key: value, field: {"$lt": at}}, {"$set": {field: at}})
                    for value, at in dates.items()
                ],
                ordered=False,
            )

    async def put(
        self, collection: str, docs: list[Document], *, session: Session | None = None
    ) -> None:
        """Store documents; each replaces the document with the same id, if there is one."""
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
        """Take slots out of `due`. A record that is then due nowhere loses the field and expires."""
        # Most records are due nowhere else. Computing the rest costs the database twice as much.
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
            # Only with `due`: without it the difference would be null, and null would count as due.
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
        """Add slots to `due`: each key of `ids` to the documents that are listed under it.

        Where these documents, or those in `also`, have an expiry date, it becomes `expires_at`.
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
        """Remove the documents that still have exactly these values."""
        await self._collection(collection).bulk_write(
            [pymongo.DeleteOne(doc) for doc in docs], ordered=False
        )

    async def first_records(
        self, where: Document, limit: int
    ) -> tuple[list[Document], list[Document]]:
        """Returns the first matching records, by id, of the log and of the outbox, from one snapshot.

        `limit`: the maximum for each of the two.
        """
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
        """Follow the changes that a majority stores from now on, in commit order. Raises PyMongoError.

        A read inside the block sees all earlier changes, so the read and the stream together miss nothing.
        """
        async with await self._database.watch(
            pipeline, max_await_time_ms=CHANGES_AWAIT_MS, batch_size=CHANGES_BATCH
        ) as stream:
            # The stream starts after the primary's last change, but a read sees only what a majority
            # has. Without this wait, changes between the two would be in neither.
            await self._majority_has_all()
            yield stream

    async def _majority_has_all(self) -> None:
        """Return when a majority has everything that the primary has now."""
        with pymongo.timeout(self.timeout_s):
            async with self._client.start_session(causal_consistency=True) as session:
                # The reply carries the primary's latest time. The read below waits for that time.
                await self._client.admin.command(
                    "ping", session=session, read_preference=pymongo.ReadPreference.PRIMARY
                )
                await self.relays.find_one({}, {"_id": 1}, session=session)


@contextmanager
def _already_there() -> Iterator[None]:
    """Another node may be starting at the same time on the same empty database."""
    try:
        yield
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists
            raise


def replace_one(doc: Document) -> pymongo.ReplaceOne[Document]:
    """Replace the document that has the id of `doc`, as part of a bulk write."""
    return pymongo.ReplaceOne({"_id": doc["_id"]}, doc)


def new_id() -> str:
    """Returns 24 hexadecimal characters. Ids of one process sort in the order of their creation."""
    return str(ObjectId())


def first_id(at: datetime) -> str:
    """Returns the lowest id that `new_id` can return from that second on."""
    return str(ObjectId.from_datetime(at))
