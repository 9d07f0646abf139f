"""Creates or updates many documents in one write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pymongo
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from .failures import DUPLICATE_KEY

Document = dict[str, Any]
Upsert = tuple[Document, Mapping[str, Any]]
"""A filter that names the `_id`, and the update."""


async def upsert_each(
    collection: AsyncCollection[Document], upserts: Sequence[Upsert]
) -> tuple[set[str], set[str]]:
    """Update the documents, or create those that do not exist.

    Returns the ids of those that were created, and of those that were refused: they exist, and did not match the
    filter, or another process has created them meanwhile.
    """
    writes = [pymongo.UpdateOne(where, update, upsert=True) for where, update in upserts]
    try:
        done = await collection.bulk_write(writes, ordered=False)
        return set((done.upserted_ids or {}).values()), set()
    except BulkWriteError as error:
        errors = error.details["writeErrors"]
        if error.details["writeConcernErrors"] or any(e["code"] != DUPLICATE_KEY for e in errors):
            raise
        created = {upserted["_id"] for upserted in error.details["upserted"]}
        return created, {upserts[refused["index"]][0]["_id"] for refused in errors}
