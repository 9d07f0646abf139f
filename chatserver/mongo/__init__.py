"""Access to MongoDB. The server imports the driver only in this folder.

Writes wait until a majority has journaled them. Reads return only data that a majority has, so a
failover cannot roll back anything that was read.
"""

from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from .blocks import blocks, blocks_with
from .failures import (
    UNENCODABLE,
    DatabaseUnavailable,
    duplicate_of,
    is_down,
)
from .fair_queue import FairQueue
from .mongo import (
    AFTER,
    CLOSE_S,
    DEAD_RETENTION_S,
    RETENTION_S,
    Changes,
    Collection,
    Document,
    Mongo,
    Session,
    first_id,
    new_id,
    replace_one,
)
from .operations import Operations
from .ordered_insert import Locked
from .url import BadUrl, check_url

__all__ = [
    "AFTER",
    "CLOSE_S",
    "DEAD_RETENTION_S",
    "RETENTION_S",
    "UNENCODABLE",
    "BadUrl",
    "BulkWriteError",
    "Changes",
    "Collection",
    "DatabaseUnavailable",
    "Document",
    "DuplicateKeyError",
    "FairQueue",
    "Locked",
    "Mongo",
    "Operations",
    "PyMongoError",
    "Session",
    "blocks",
    "blocks_with",
    "check_url",
    "duplicate_of",
    "first_id",
    "is_down",
    "new_id",
    "replace_one",
]
