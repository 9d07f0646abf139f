"""Background jobs, as operators see them."""

from __future__ import annotations

from marshmallow import fields

from ..requests.schema import Cursor, Integer, Text
from .response import LARGEST, Answer, Time, each, number


class JobResponse(Answer):
    """`subject`: the id of the user or the conversation; empty for a job that is always there. `done`, `total`: items;
    `total` is null if their number is unknown. `attempts`: steps that failed in a row, the last one with `error`."""

    kind = Text()
    subject = Text()
    done = number()
    total = Integer(0, LARGEST, allow_none=True)
    attempts = number()
    error = Text(allow_none=True)
    added_at = Time()
    next_at = Time()
    is_running = fields.Boolean()


class JobPage(Answer):
    """In the order of kind and subject. `nextCursor` is null on the last page."""

    items = each(JobResponse)
    next_cursor = Cursor(allow_none=True)
