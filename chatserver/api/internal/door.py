"""The routes of the internal API: users, as the Master Service reports them, and the admin API of webhooks.

Every request needs the shared secret. Served on PORT only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from ...chat.chat import Chat
from ...chat.users import OneUser, UserSync
from ...errors import ChatError, Conflict, NotFound, Unauthenticated
from ...observability.metrics import Metrics
from ...outbox.admin.admin import OneEndpoint, PageOfDeadLetters
from ...outbox.admin.search import Selection
from ..auth import same_secret
from ..http import HEADER_SECRET, Reply, answer, pattern, read
from ..requests.parse import parse
from ..requests.users import EmptyPayload, NoPayload, OfExternalUser, SyncUser, SyncUsers, UserBatch
from ..requests.webhooks import ListDeadLetters, OfEndpoint, Replay
from ..responses import users
from ..responses.webhooks import DeadLetterPage, Dropped, ReplayedResponse, WebhookStatus
from ..route import Route

MAX_BATCH_BODY = 4 * 1024 * 1024


async def sync(chat: Chat, sync: UserSync) -> Any:
    """Create or update a user. Omitted fields keep their values; a deleted user is restored."""
    synced = await chat.users.sync(sync)
    return Reply(201 if synced.is_new else 200, synced.view)


async def sync_all(chat: Chat, batch: UserBatch) -> Any:
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


async def get(chat: Chat, user: OneUser) -> Any:
    """Get a user."""
    return await chat.users.get(user.user_id)


async def delete(chat: Chat, user: OneUser) -> Any:
    """Delete a user: tokens are refused, sockets closed, conversations left. Messages stay."""
    await chat.users.delete(user.user_id)
    return Reply(204)


async def webhooks(chat: Chat, _: EmptyPayload) -> Any:
    """Show each endpoint's pending events, failing keys and dead letters, and the running relays."""
    return await chat.webhooks.status()


async def dead(chat: Chat, asked: PageOfDeadLetters) -> Any:
    """List the dead letters, newest first."""
    items, cursor = await chat.webhooks.dead_letters(asked)
    return {"items": items, "nextCursor": cursor}


async def replay(chat: Chat, selection: Selection) -> Any:
    """Replay events: those with the given ids, or all that match every other field."""
    done = await chat.webhooks.replays.replay(selection)
    return {"replayed": done.replayed, "gone": done.gone, "nextCursor": done.cursor}


async def forget(chat: Chat, named: OneEndpoint) -> Any:
    """Drop everything stored for an endpoint that is no longer configured."""
    dropped, more = await chat.webhooks.forget(named.endpoint)
    return {"dropped": dropped, "more": more}


_USER, _GONE = "/api/users/{externalUserId}", (NotFound,)

ROUTES: Sequence[Route] = [
    Route("POST", "/api/users/sync", SyncUser, sync, users.User, known="The user existed."),
    Route(
        "POST",
        "/api/users/sync/batch",
        SyncUsers,
        sync_all,
        users.BatchReport,
        max_body=MAX_BATCH_BODY,
    ),
    Route("GET", _USER, OfExternalUser, get, users.User, refuses=_GONE),
    Route("DELETE", _USER, OfExternalUser, delete, None, refuses=_GONE),
    Route("GET", "/api/webhooks", NoPayload, webhooks, WebhookStatus),
    Route("GET", "/api/webhooks/dead", ListDeadLetters, dead, DeadLetterPage),
    Route("POST", "/api/webhooks/replay", Replay, replay, ReplayedResponse, refuses=_GONE),
    Route(
        "DELETE",
        "/api/webhooks/{endpoint}",
        OfEndpoint,
        forget,
        Dropped,
        refuses=(NotFound, Conflict),
    ),
]


class InternalDoor:
    def __init__(self, chat: Chat, metrics: Metrics, secrets: Sequence[str]) -> None:
        self._chat = chat
        self._metrics = metrics
        self._secrets = secrets

    def add_to(self, router: web.UrlDispatcher) -> None:
        for route in ROUTES:
            router.add_route(route.method, pattern(route.path), self._handler(route))
        self._metrics.expect("internal", (f"{route.method} {route.path}" for route in ROUTES))

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        name = f"{route.method} {route.path}"

        async def handle(request: web.Request) -> web.Response:
            async def work() -> Any:
                if not same_secret(request.headers.get(HEADER_SECRET, ""), self._secrets):
                    raise Unauthenticated()
                return await route.handler(
                    self._chat, await read(request, route.request, route.max_body)
                )

            return await answer(request, self._metrics, "internal", name, work, {})

        return handle
