"""Creates users and conversations through the server's REST API."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import jwt

BATCH = 1000
FRIENDS = 500_000
"""The number of the first user with whom a user converses."""
SECRETS = {
    key: secrets.token_urlsafe(32)
    for key in ("AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET")
}


def user(number: int) -> str:
    return f"user{number:06}"


def token(number: int) -> str:
    claims = {"sub": user(number), "exp": int(time.time()) + 24 * 3600}
    return jwt.encode(claims, SECRETS["AUTH_JWT_SECRET"], "HS256")


async def seed(origin: str, users: int, groups: Sequence[Sequence[int]]) -> list[str]:
    """Creates the users, and a conversation per group of user numbers. Returns the conversations' ids."""
    async with _session(origin) as http:
        await _create(http, range(users))

        async def conversation(name: int, creator: int, *others: int) -> str:
            ids = [user(n) for n in others]
            body = {"type": "group", "name": f"group {name}", "participantIds": ids[:BATCH]}
            made = await _post(http, "/api/conversations", body, bearer(creator))
            path = f"/api/conversations/{made['id']}/participants"
            for k in range(BATCH, len(ids), BATCH):
                await _post(http, path, {"userIds": ids[k : k + BATCH]}, bearer(creator))
            return str(made["id"])

        return await asyncio.gather(*(conversation(n, *group) for n, group in enumerate(groups)))


async def add_members(
    origin: str, conversation: str, numbers: Sequence[int], at_once: int
) -> list[float]:
    """Creates users, and adds them to a conversation of the first user. Returns the seconds of each addition."""
    took: list[float] = []
    async with _session(origin) as http:
        await _create(http, numbers)
        for k in range(0, len(numbers), at_once):
            body = {"userIds": [user(n) for n in numbers[k : k + at_once]]}
            began = time.monotonic()
            await _post(http, f"/api/conversations/{conversation}/participants", body, bearer(0))
            took.append(time.monotonic() - began)
    return took


async def converse(origin: str, number: int, count: int) -> None:
    """Creates direct conversations of a user, each with a message of the other."""
    async with _session(origin) as http:

        async def conversation(n: int) -> None:
            body = {"userId": user(n)}
            made = await _post(http, "/api/conversations/direct", body, bearer(number))
            path = f"/api/conversations/{made['id']}/messages"
            await _post(http, path, {"content": f"Hello {number}"}, bearer(n))

        numbers = range(FRIENDS, FRIENDS + count)
        await _create(http, numbers)
        for k in range(0, count, BATCH):
            await asyncio.gather(*map(conversation, numbers[k : k + BATCH]))


async def pages(origin: str, number: int, limit: int, count: int) -> list[float]:
    """Reads the first page of a user's conversations so many times. Returns the seconds of each."""
    took: list[float] = []
    async with _session(origin) as http:
        for _ in range(count):
            began = time.monotonic()
            path = f"/api/conversations?limit={limit}"
            async with http.get(path, headers=bearer(number)) as answer:
                page = await answer.json()
            took.append(time.monotonic() - began)
            if len(page["items"]) != limit:
                raise SystemExit(f"{limit} conversations were expected, not {len(page['items'])}.")
    return took


async def _create(http: aiohttp.ClientSession, numbers: Sequence[int]) -> None:
    internal = {"X-Internal-Secret": SECRETS["INTERNAL_API_SECRET"]}
    for k in range(0, len(numbers), BATCH):
        rows = [{"externalUserId": user(n)} for n in numbers[k : k + BATCH]]
        answer = await _post(http, "/api/users/sync/batch", {"users": rows}, internal)
        if answer["failed"]:
            raise SystemExit(f"A user could not be created: {answer['failed'][0]}")


def _session(origin: str) -> aiohttp.ClientSession:
    few = aiohttp.TCPConnector(limit=8)
    return aiohttp.ClientSession(origin, connector=few, raise_for_status=True)


def bearer(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(number)}"}


async def _post(
    http: aiohttp.ClientSession, path: str, body: object, headers: dict[str, str]
) -> dict[str, Any]:
    async with http.post(path, json=body, headers=headers) as answer:
        return dict(await answer.json())
