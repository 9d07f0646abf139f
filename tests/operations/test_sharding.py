"""Collections can be distributed over shards: what must be unique is unique on its shard, and requests name their shard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from chatserver.mongo.indexes import INDEXES, SHARD_KEYS
from tests.support.pages import block
from tests.support.sharding import names_shard

TALK = "0123456789abcdef01234567"


def test_every_collection_has_a_shard_key() -> None:
    assert set(SHARD_KEYS) == set(INDEXES)


def test_unique_indexes_begin_with_the_shard_key() -> None:
    found = [
        f"{collection}.{index.document['name']}"
        for collection, indexes in INDEXES.items()
        for index in indexes
        if index.document.get("unique")
        and next(iter(index.document["key"])) != SHARD_KEYS[collection]
    ]
    assert not found


def test_the_shown_commands_have_the_declared_keys() -> None:
    """The commands themselves need a sharded cluster, which no test has."""
    shown = re.findall(r"(\w+): \"(\w+)\"[,\n]", block("docs/operations.md", "use chat").text)
    sharded = {collection: key for collection, key in SHARD_KEYS.items() if key}
    assert dict(shown) == sharded


@pytest.mark.parametrize(
    ("collection", "where", "named"),
    [
        ("log", {"conversationId": TALK, "seq": {"$gte": 1}}, True),
        ("log", {"conversationId": {"$in": [TALK]}}, True),
        ("log", {"_id": f"{TALK}-00000001"}, True),
        ("log", {"_id": {"$gt": f"{TALK}-", "$lt": f"{TALK}."}}, True),
        ("log", {"$or": [{"_id": TALK}, {"conversationId": TALK, "seq": 1}]}, True),
        ("log", {"$and": [{"seq": 1}, {"conversationId": TALK}]}, True),
        ("log", {}, False),
        ("log", {"at": 1}, False),
        ("log", {"_id": {"$gt": TALK}}, False),
        ("log", {"_id": {"$gt": "0", "$lt": "1"}}, False),
        ("log", {"conversationId": {"$ne": TALK}}, False),
        ("log", {"conversationId": None}, False),
        ("log", {"$or": [{"conversationId": TALK}, {"at": 1}]}, False),
        ("receipts", {"_id": {"$in": [1]}}, False),
        ("users", {"_id": "alice"}, True),
        ("users", {"on": "a"}, False),
    ],
)
def test_the_check_knows_a_filter_that_names_its_shard(
    collection: str, where: Mapping[str, Any], named: bool
) -> None:
    assert names_shard(collection, where) is named
