"""The shards that an operation of the database would ask: those of the conversations or users that its filter names, or all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chatserver.mongo.indexes import SHARD_KEYS

from .profiled import Operation

Filter = Mapping[str, Any]
_ID_LENGTH = 24
_NAMED = "a value that is known before the stage runs"
_LONG = re.compile(r"(?:filter|q): \{ (\w+): \{ \$in: \[")


def asks_all_shards(operation: Operation) -> list[str]:
    """Returns a line such as `users by on` for each filter of a sharded collection that does not name the shard."""
    return [
        f"{collection} by {', '.join(sorted({*_fields(where)})) or 'nothing'}"
        for collection, where in _filters(operation)
        if SHARD_KEYS[collection] and not names_shard(collection, where)
    ]


def names_shard(collection: str, where: Filter) -> bool:
    """True if a filter has the shard key, or an `_id` that begins with it."""
    for field, condition in where.items():
        if field == "$and":
            named = any(names_shard(collection, part) for part in condition)
        elif field == "$or":
            named = all(names_shard(collection, part) for part in condition)
        elif field == "$expr":
            named = _is_range_of_ids(condition)
        else:
            named = field == SHARD_KEYS[collection] and _is_fixed(condition)
            named |= field == "_id" and collection != "receipts" and _is_fixed(condition)
        if named:
            return True
    return False


def _is_fixed(condition: Any) -> bool:
    if not isinstance(condition, Mapping) or not any(key.startswith("$") for key in condition):
        return condition is not None
    bounds = [
        next((str(condition[operator]) for operator in operators if operator in condition), "")
        for operators in (("$gt", "$gte"), ("$lt", "$lte"))
    ]
    low, high = (bound[:_ID_LENGTH] for bound in bounds)
    return "$eq" in condition or "$in" in condition or (low == high and len(low) == _ID_LENGTH)


def _is_range_of_ids(expression: Any) -> bool:
    """True for a range whose bounds a `$lookup` makes of the id of a conversation."""
    parts = expression.get("$and", ())
    compared = [next(iter(part.items())) for part in parts]
    return [(operator, operands[0]) for operator, operands in compared] == [
        ("$gt", "$_id"),
        ("$lt", "$_id"),
    ]


def _fields(where: Filter) -> Iterator[str]:
    for field, condition in where.items():
        if field in ("$and", "$or"):
            for part in condition:
                yield from _fields(part)
        else:
            yield field


def _filters(operation: Operation) -> Iterator[tuple[str, Filter]]:
    command = operation.command or {}
    if "$truncated" in command:
        (field,) = _LONG.findall(command["$truncated"])[:1] or [""]
        yield operation.collection, {field: {"$in": []}} if field else {}
    elif "pipeline" in command:
        yield from _of_stages(operation.collection, command["pipeline"], {})
    else:
        for name in ("filter", "query", "q"):
            if name in command:
                yield operation.collection, command[name]


def _of_stages(
    collection: str, stages: Sequence[Filter], joined_by: Filter
) -> Iterator[tuple[str, Filter]]:
    conditions: list[Filter] = [joined_by]
    for stage in stages:
        if "$match" not in stage:
            break
        conditions.append(stage["$match"])
    yield collection, {"$and": [each for each in conditions if each]}
    for stage in stages:
        if joined := stage.get("$lookup"):
            by = {joined["foreignField"]: _NAMED} if "foreignField" in joined else {}
            yield from _of_stages(joined["from"], joined.get("pipeline", ()), by)
        if other := stage.get("$unionWith"):
            yield from _of_stages(other["coll"], other["pipeline"], {})
