"""Expected payloads, with placeholders for values that cannot be known in advance."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


class _Such:
    """Equal to every value that passes the check, so that whole payloads can be compared."""

    def __init__(self, name: str, passes: Callable[[Any], bool]) -> None:
        self._name = name
        self._passes = passes

    def __eq__(self, other: object) -> bool:
        return self._passes(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return self._name


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

A_TIME: Any = _Such("A_TIME", lambda value: isinstance(value, str) and bool(_TIME.fullmatch(value)))
AN_ID: Any = _Such("AN_ID", lambda value: isinstance(value, str) and 0 < len(value) <= 128)
A_SENTENCE: Any = _Such("A_SENTENCE", lambda value: isinstance(value, str) and len(value) > 3)


def error(code: str, **more: Any) -> dict[str, Any]:
    """Returns an expected error."""
    return {"code": code, "message": A_SENTENCE, "timestamp": A_TIME, **more}


def bad_token(reason: str) -> dict[str, Any]:
    """Returns the expected refusal of a token."""
    code = "TOKEN_EXPIRED" if reason == "expired" else "UNAUTHENTICATED"
    return error(code, details={"reason": reason})


def message(**known: Any) -> dict[str, Any]:
    """Returns an expected message that has only the `known` values."""
    return {
        "id": AN_ID,
        "attachments": [],
        "replyTo": None,
        "mentions": [],
        "metadata": {},
        "clientMessageId": None,
        "reactions": [],
        "isEdited": False,
        "isDeleted": False,
        "createdAt": A_TIME,
        "updatedAt": A_TIME,
        "deletedAt": None,
        **known,
    }


def participant(user_id: str, role: str = "member", last_read_seq: int = 0) -> dict[str, Any]:
    return {"userId": user_id, "role": role, "joinedAt": A_TIME, "lastReadSeq": last_read_seq}


def conversation(*participants: dict[str, Any], **known: Any) -> dict[str, Any]:
    """Returns an expected conversation that has no messages and only the `known` values."""
    return {
        "id": AN_ID,
        "type": "group",
        "name": None,
        "avatarUrl": None,
        "metadata": {},
        "createdAt": A_TIME,
        "updatedAt": A_TIME,
        "lastSeq": 0,
        "lastRev": 0,
        "lastMessage": None,
        "participantCount": len(participants),
        "isLarge": False,
        "participants": list(participants),
        **known,
    }


def seen_by(view: dict[str, Any], user_id: str = "") -> dict[str, Any]:
    """Returns a conversation as this user sees it: first the user, then the owner, the admins and the members, in the
    order of joining. Without a user, as an event for all of them shows it."""
    roles = ["owner", "admin", "member"]

    def place(member: dict[str, Any]) -> tuple[Any, ...]:
        rank = roles.index(member["role"])
        return member["userId"] != user_id, rank, member["joinedAt"], member["userId"]

    return {**view, "participants": sorted(view["participants"], key=place)}
