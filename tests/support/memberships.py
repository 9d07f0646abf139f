"""Compares `participants` and `memberships`, which say the same of the same members."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database


def difference(database: Database[Any]) -> list[Any]:
    """Returns what only one of the two collections has."""
    participants, memberships = (
        {
            (doc["conversationId"], doc["userId"], doc["joinedAt"], doc.get("hides", False))
            for doc in rows.find()
        }
        for rows in (database.participants, database.memberships)
    )
    return sorted(participants ^ memberships)
