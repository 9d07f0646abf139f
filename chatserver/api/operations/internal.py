"""Operations of the Master Service on its users."""

from __future__ import annotations

import asyncio
from typing import Any

from ...chat.chat import Chat
from ...chat.users import OneUser, UserSync
from ...errors import ChatError, Conflict, NotFound
from ..requests.schema import parse
from ..requests.users import OfExternalUser, SyncUser, SyncUsers, UserBatch
from ..responses import users
from .operation import Made, Operation, Route, Underway

MAX_BATCH_BODY = 4 * 1024 * 1024
PARSED_AT_ONCE = 50


async def sync(chat: Chat, _: None, sync: UserSync) -> Any:
    """Create or update a user. Omitted fields keep their values; the status `active` restores a deleted user."""
    synced = await chat.users.sync(sync)
    return Made(synced.view, synced.is_new)


async def sync_all(chat: Chat, _: None, batch: UserBatch) -> Any:
    """Create or update many users. A row that is refused is reported and does not affect the others."""
    syncs: dict[int, UserSync] = {}
    errors: dict[int, ChatError] = {}
    for index, row in enumerate(batch.users):
        if not index % PARSED_AT_ONCE:
            # A thousand rows would keep the event loop busy for some 100 ms.
            await asyncio.sleep(0)
        try:
            syncs[index] = parse(SyncUser, row)
        except ChatError as error:
            errors[index] = error
    created, refused = await chat.users.sync_all(syncs)
    errors |= refused
    return {
        "created": created,
        "updated": len(batch.users) - len(errors) - created,
        "failed": [{"index": index, "error": errors[index].wire()} for index in sorted(errors)],
    }


async def get(chat: Chat, _: None, user: OneUser) -> Any:
    """Get a user."""
    return await chat.users.get(user.user_id)


async def delete(chat: Chat, _: None, user: OneUser) -> Any:
    """Delete a user: tokens are refused, sockets closed, conversations left. Messages stay."""
    return None if await chat.personal_data.delete_user(user.user_id) else Underway()


_USER = "/api/users/{externalUserId}"
ONLY = "It is for the Master Service, which has no socket."

OPERATIONS = (
    Operation(
        "internal.sync",
        SyncUser,
        sync,
        users.User,
        route=Route("POST", "/api/users/sync", known="The user existed."),
        only=ONLY,
        refuses=(Conflict,),
    ),
    Operation(
        "internal.sync_all",
        SyncUsers,
        sync_all,
        users.BatchReport,
        route=Route("POST", "/api/users/sync/batch", max_body=MAX_BATCH_BODY),
        only=ONLY,
    ),
    Operation(
        "internal.get",
        OfExternalUser,
        get,
        users.User,
        route=Route("GET", _USER),
        only=ONLY,
        refuses=(NotFound,),
    ),
    Operation(
        "internal.delete",
        OfExternalUser,
        delete,
        None,
        route=Route(
            "DELETE",
            _USER,
            background="The user is refused already. The server removes the user from the remaining conversations.",
        ),
        only=ONLY,
        refuses=(NotFound,),
        announces=("conversation:removed", "participant:removed", "participants:changed"),
        webhooks=("participant.removed",),
    ),
)
