"""Users as the Master Service tells us of them, and the operator's desk of the webhooks.

Served on the internal port only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from ..auth import same_secret
from ..chat.chat import Chat
from ..errors import Unauthenticated
from ..http import HEADER_SECRET, MAX_BODY, Reply, answer, pattern, read
from ..metrics import Metrics
from ..requests.parse import Request
from ..requests.users import (
    NoPayload,
    Nothing,
    OfExternalUser,
    OneUser,
    SyncUser,
    SyncUsers,
    UserBatch,
    UserSync,
)
from ..requests.webhooks import (
    ListDeadLetters,
    OfEndpoint,
    OneEndpoint,
    PageOfDeadLetters,
    Replay,
    Selection,
)

MAX_BATCH_BODY = 4 * 1024 * 1024

Operation = Callable[[Chat, Any], Awaitable[Any]]


async def sync(chat: Chat, sync: UserSync) -> Any:
    synced = await chat.users.sync(sync)
    return Reply(201 if synced.is_new else 200, synced.view)


async def sync_all(chat: Chat, batch: UserBatch) -> Any:
    return await chat.users.sync_all(batch.users)


async def get(chat: Chat, one: OneUser) -> Any:
    return await chat.users.get(one.user_id)


async def delete(chat: Chat, one: OneUser) -> Any:
    await chat.users.delete(one.user_id)
    return Reply(204)


async def webhooks(chat: Chat, _: Nothing) -> Any:
    return await chat.webhooks.status()


async def dead(chat: Chat, asked: PageOfDeadLetters) -> Any:
    items, cursor = await chat.webhooks.dead(asked)
    return {"items": items, "nextCursor": cursor}


async def replay(chat: Chat, selection: Selection) -> Any:
    done = await chat.webhooks.replay(selection)
    return {"replayed": done.replayed, "gone": done.gone, "nextCursor": done.cursor}


async def forget(chat: Chat, one: OneEndpoint) -> Any:
    dropped, more = await chat.webhooks.forget(one.endpoint)
    return {"dropped": dropped, "more": more}


ROUTES: Sequence[tuple[str, str, type[Request], Operation, int, str]] = [
    ("POST", "/api/users/sync", SyncUser, sync, MAX_BODY, "201 (200 when known) the user"),
    (
        "POST",
        "/api/users/sync/batch",
        SyncUsers,
        sync_all,
        MAX_BATCH_BODY,
        "`{created, updated, failed: [{index, error}]}`",
    ),
    ("GET", "/api/users/{externalUserId}", OfExternalUser, get, MAX_BODY, "the user"),
    ("DELETE", "/api/users/{externalUserId}", OfExternalUser, delete, MAX_BODY, "204"),
    (
        "GET",
        "/api/webhooks",
        NoPayload,
        webhooks,
        MAX_BODY,
        "`{endpoints: [{name, configured, url, types, pending, oldestPendingAt, lag (s), failing, "
        "worst: [{key, eventId, timestamp, since, attempts, nextAt, error}], dead}], countedUpTo, "
        "relays: [{id, partitions, until}]}`",
    ),
    (
        "GET",
        "/api/webhooks/dead",
        ListDeadLetters,
        dead,
        MAX_BODY,
        "`{items: [{id, type, endpoint, conversationId or userId, timestamp, diedAt, attempts, "
        "error}], nextCursor}`",
    ),
    (
        "POST",
        "/api/webhooks/replay",
        Replay,
        replay,
        MAX_BODY,
        "`{replayed, gone, nextCursor}`; with a cursor: ask again for the rest",
    ),
    (
        "DELETE",
        "/api/webhooks/{endpoint}",
        OfEndpoint,
        forget,
        MAX_BODY,
        "`{dropped, more}`; with more: ask again for the rest",
    ),
]


class InternalDoor:
    def __init__(self, chat: Chat, metrics: Metrics, secrets: Sequence[str]) -> None:
        self._chat = chat
        self._metrics = metrics
        self._secrets = secrets

    def add_to(self, router: web.UrlDispatcher) -> None:
        for method, path, payload, operation, most, _ in ROUTES:
            handler = self._handler(f"{method} {path}", payload, operation, most)
            router.add_route(method, pattern(path), handler)

    def _handler(
        self, name: str, payload: type[Request], operation: Operation, most: int
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            async def work() -> Any:
                if not same_secret(request.headers.get(HEADER_SECRET, ""), self._secrets):
                    raise Unauthenticated()
                return await operation(self._chat, await read(request, payload, most))

            return await answer(request, self._metrics, "internal", name, work, {})

        return handle
