"""Operations of the Master Service itself: its users, and the administration of webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...chat.chat import Chat
from ...chat.users import OneUser, UserSync
from ...errors import ChatError, Conflict, NotFound
from ...outbox.admin.admin import OneEndpoint, PageOfDeadLetters
from ...outbox.admin.search import Selection
from ..requests.parse import parse
from ..requests.users import EmptyPayload, NoPayload, OfExternalUser, SyncUser, SyncUsers, UserBatch
from ..requests.webhooks import ListDeadLetters, OfEndpoint, Replay
from ..responses import users
from ..responses.webhooks import DeadLetterPage, Dropped, ReplayedResponse, WebhookStatus
from .operation import Made, Operation, Route

MAX_BATCH_BODY = 4 * 1024 * 1024


async def sync(chat: Chat, _: None, sync: UserSync) -> Any:
    """Create or update a user. Omitted fields keep their values; a deleted user is restored."""
    synced = await chat.users.sync(sync)
    return Made(synced.view, synced.is_new)


async def sync_all(chat: Chat, _: None, batch: UserBatch) -> Any:
    """Create or update many users. An invalid row is reported and does not affect the others."""
    syncs: list[UserSync] = []
    failed: list[Mapping[str, Any]] = []
    for index, row in enumerate(batch.users):
        try:
            syncs.append(parse(SyncUser, row))
        except ChatError as error:
            failed.append({"index": index, "error": error.wire()})
    created = await chat.users.sync_all(syncs)
    return {"created": created, "updated": len(syncs) - created, "failed": failed}


async def get(chat: Chat, _: None, user: OneUser) -> Any:
    """Get a user."""
    return await chat.users.get(user.user_id)


async def delete(chat: Chat, _: None, user: OneUser) -> None:
    """Delete a user: tokens are refused, sockets closed, conversations left. Messages stay."""
    await chat.users.delete(user.user_id)


async def webhooks(chat: Chat, _: None, __: EmptyPayload) -> Any:
    """Show each endpoint's pending events, failing keys and dead letters, and the running relays."""
    return await chat.webhooks.status()


async def dead(chat: Chat, _: None, asked: PageOfDeadLetters) -> Any:
    """List the dead letters, newest first."""
    items, cursor = await chat.webhooks.dead_letters(asked)
    return {"items": items, "nextCursor": cursor}


async def replay(chat: Chat, _: None, selection: Selection) -> Any:
    """Replay events: those with the given ids, or all that match every other field."""
    done = await chat.webhooks.replays.replay(selection)
    return {"replayed": done.replayed, "gone": done.gone, "nextCursor": done.cursor}


async def forget(chat: Chat, _: None, named: OneEndpoint) -> Any:
    """Drop everything stored for an endpoint that is no longer configured."""
    dropped, more = await chat.webhooks.forget(named.endpoint)
    return {"dropped": dropped, "more": more}


_USER = "/api/users/{externalUserId}"
_ONLY = "It is for the Master Service, which has no socket."

OPERATIONS = (
    Operation(
        "internal.sync",
        SyncUser,
        sync,
        users.User,
        route=Route("POST", "/api/users/sync", known="The user existed."),
        only=_ONLY,
    ),
    Operation(
        "internal.sync_all",
        SyncUsers,
        sync_all,
        users.BatchReport,
        route=Route("POST", "/api/users/sync/batch", max_body=MAX_BATCH_BODY),
        only=_ONLY,
    ),
    Operation(
        "internal.get",
        OfExternalUser,
        get,
        users.User,
        route=Route("GET", _USER),
        only=_ONLY,
        refuses=(NotFound,),
    ),
    Operation(
        "internal.delete",
        OfExternalUser,
        delete,
        None,
        route=Route("DELETE", _USER),
        only=_ONLY,
        refuses=(NotFound,),
        announces=("conversation:removed", "participant:removed"),
        webhooks=("participant.removed",),
    ),
    Operation(
        "internal.webhooks",
        NoPayload,
        webhooks,
        WebhookStatus,
        route=Route("GET", "/api/webhooks"),
        only=_ONLY,
    ),
    Operation(
        "internal.dead",
        ListDeadLetters,
        dead,
        DeadLetterPage,
        route=Route("GET", "/api/webhooks/dead"),
        only=_ONLY,
    ),
    Operation(
        "internal.replay",
        Replay,
        replay,
        ReplayedResponse,
        route=Route("POST", "/api/webhooks/replay"),
        only=_ONLY,
        refuses=(NotFound,),
    ),
    Operation(
        "internal.forget",
        OfEndpoint,
        forget,
        Dropped,
        route=Route("DELETE", "/api/webhooks/{endpoint}"),
        only=_ONLY,
        refuses=(NotFound, Conflict),
    ),
)
