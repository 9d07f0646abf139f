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
SECRETS = {
    key: secrets.token_urlsafe(32)
    for key in ("AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET")
}


def user(number: int) -> str:
    return f"user{number:05}"


def token(number: int) -> str:
    claims = {"sub": user(number), "exp": int(time.time()) + 24 * 3600}
    return jwt.encode(claims, SECRETS["AUTH_JWT_SECRET"], "HS256")


async def seed(origin: str, users: int, groups: Sequence[Sequence[int]]) -> list[str]:
    """Creates the users, and a conversation per group of user numbers. Returns the conversations' ids."""
    few = aiohttp.TCPConnector(limit=8)
    async with aiohttp.ClientSession(origin, connector=few, raise_for_status=True) as http:
        internal = {"X-Internal-Secret": SECRETS["INTERNAL_API_SECRET"]}
        for k in range(0, users, BATCH):
            rows = [{"externalUserId": user(n)} for n in range(k, min(k + BATCH, users))]
            answer = await _post(http, "/api/users/sync/batch", {"users": rows}, internal)
            if answer["failed"]:
                raise SystemExit(f"A user could not be created: {answer['failed'][0]}")

        async def conversation(name: int, creator: int, *others: int) -> str:
            others_ids = [user(n) for n in others]
            body = {"type": "group", "name": f"group {name}", "participantIds": others_ids}
            bearer = {"Authorization": f"Bearer {token(creator)}"}
            return str((await _post(http, "/api/conversations", body, bearer))["id"])

        return await asyncio.gather(*(conversation(n, *group) for n, group in enumerate(groups)))


async def _post(
    http: aiohttp.ClientSession, path: str, body: object, headers: dict[str, str]
) -> dict[str, Any]:
    async with http.post(path, json=body, headers=headers) as answer:
        return dict(await answer.json())
