"""Operations of the Master Service on the outbox: its state, dead letters, replay."""

from __future__ import annotations

from typing import Any

from ...errors import Conflict, NotFound
from ...outbox.admin.admin import OneEndpoint, OutboxAdmin, PageOfDeadLetters
from ...outbox.admin.search import Selection
from ..requests.users import EmptyPayload, NoPayload
from ..requests.webhooks import ListDeadLetters, OfEndpoint, Replay
from ..responses.webhooks import DeadLetterPage, Dropped, ReplayedResponse, WebhookStatus
from .internal import ONLY
from .operation import Operation, Route


async def status(outbox: OutboxAdmin, _: None, __: EmptyPayload) -> Any:
    """Show each endpoint's pending events, failing keys and dead letters, and the running relays."""
    return await outbox.status()


async def dead(outbox: OutboxAdmin, _: None, asked: PageOfDeadLetters) -> Any:
    """List the dead letters, newest first."""
    items, cursor = await outbox.dead_letters(asked)
    return {"items": items, "nextCursor": cursor}


async def replay(outbox: OutboxAdmin, _: None, selection: Selection) -> Any:
    """Replay events: those with the given ids, or all that match every other field."""
    done = await outbox.replays.replay(selection)
    return {"replayed": done.replayed, "gone": done.gone, "nextCursor": done.cursor}


async def forget(outbox: OutboxAdmin, _: None, named: OneEndpoint) -> Any:
    """Drop everything stored for an endpoint that is no longer configured."""
    dropped, more = await outbox.forget(named.endpoint)
    return {"dropped": dropped, "more": more}


OPERATIONS = (
    Operation(
        "internal.webhooks",
        NoPayload,
        status,
        WebhookStatus,
        route=Route("GET", "/api/webhooks"),
        only=ONLY,
    ),
    Operation(
        "internal.dead",
        ListDeadLetters,
        dead,
        DeadLetterPage,
        route=Route("GET", "/api/webhooks/dead"),
        only=ONLY,
    ),
    Operation(
        "internal.replay",
        Replay,
        replay,
        ReplayedResponse,
        route=Route("POST", "/api/webhooks/replay"),
        only=ONLY,
        refuses=(NotFound,),
    ),
    Operation(
        "internal.forget",
        OfEndpoint,
        forget,
        Dropped,
        route=Route("DELETE", "/api/webhooks/{endpoint}"),
        only=ONLY,
        refuses=(NotFound, Conflict),
    ),
)
