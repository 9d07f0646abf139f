"""A background job, and the result of a step. A kind of job is a function: its Step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..clock import iso, now
from ..mongo import Document


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    kind: str
    subject: str
    added_at: datetime
    state: Mapping[str, Any]
    """The position that the last step left for the next one."""
    attempts: int
    """Steps that failed in a row."""
    owner: str
    """Names this node's turn. Only the present owner can store progress."""

    @classmethod
    def of(cls, doc: Document) -> Job:
        return cls(
            doc["_id"],
            doc["kind"],
            doc["subject"],
            doc["addedAt"],
            doc["state"],
            doc["attempts"],
            doc["owner"],
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of a step."""

    done: int = 0
    """Items that the step has dealt with."""
    state: Mapping[str, Any] = field(default_factory=dict)
    again_in_s: float | None = 0.0
    """The pause before the next step; None: the job is done."""


DONE = Progress(again_in_s=None)

Step = Callable[[Job], Awaitable[Progress]]
"""Performs the next step of a job: as much as takes about a tenth of a second. Whatever it raises is a failure of the
step, which is then repeated."""


def new_job(
    kind: str, subject: str, total: int | None = None, state: Mapping[str, Any] | None = None
) -> Document:
    at = now()
    return {
        "_id": job_id(kind, subject),
        "kind": kind,
        "subject": subject,
        "addedAt": at,
        "runAt": at,
        "done": 0,
        "total": total,
        "state": state or {},
        "attempts": 0,
        "error": None,
    }


def job_id(kind: str, subject: str) -> str:
    return f"{kind}:{subject}"


def job_view(doc: Document) -> Mapping[str, Any]:
    return {
        "kind": doc["kind"],
        "subject": doc["subject"],
        "done": doc["done"],
        "total": doc["total"],
        "attempts": doc["attempts"],
        "error": doc["error"],
        "addedAt": iso(doc["addedAt"]),
        "nextAt": iso(doc["runAt"]),
        "isRunning": "until" in doc,
    }
