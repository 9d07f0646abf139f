"""Operations on background jobs, for operators."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.jobs import PageOfJobs
from ..requests.jobs import ListJobs
from ..responses.jobs import JobPage
from .operation import Operation, Route


async def unfinished(chat: Chat, _: None, asked: PageOfJobs) -> Any:
    """List the background jobs that are not done, with their progress."""
    items, cursor = await chat.jobs.page(asked)
    return {"items": items, "nextCursor": cursor}


OPERATIONS = (
    Operation(
        "jobs.list",
        ListJobs,
        unfinished,
        JobPage,
        route=Route("GET", "/api/jobs"),
        only="It is for operators, who have no socket.",
    ),
)
