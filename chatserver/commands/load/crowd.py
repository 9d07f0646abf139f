"""All users of a run: creates them, connects them over the ramp, and waits for their deliveries."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp

from ..client.api import Api
from ..client.commands import Target
from ..client.failures import CommandFailed, RefusedByServer
from ..client.reconnecting_socket import ReconnectingSocket
from .load_user import LoadUser, lacking
from .plan import Plan
from .tally import Tally

SYNC_BATCH = 1000
AT_ONCE = 16
"""Setup requests in flight."""
PATIENCE_S = 15.0
"""Seconds to wait for users who are still connecting after the ramp."""
LOOK_S = 0.05


class Crowd:
    """`due` returns the time at which a message of this run was due, by its clientMessageId."""

    def __init__(self, plan: Plan, tally: Tally, due: Callable[[str | None], float | None]) -> None:
        self._plan = plan
        self._tally = tally
        self._due = due
        self._users: Sequence[LoadUser] = ()
        self._talks: list[str] = []
        self._targets: dict[str, int] = {}
        self._bases: dict[str, int] = {}

    async def set_up(self, api: Api) -> None:
        """Create the users and conversations, or reuse those of an earlier run. Raises RefusedByServer, Unreachable."""
        ids = self._plan.user_ids()
        for n in range(0, len(ids), SYNC_BATCH):
            users = [
                {"externalUserId": user_id, "status": "active"}
                for user_id in ids[n : n + SYNC_BATCH]
            ]
            done = await api.ask("POST", "/users/sync/batch", {"users": users})
            for failed in done["failed"]:
                raise RefusedByServer(failed["error"])
        room = asyncio.Semaphore(AT_ONCE)

        async def conversation(n: int) -> Any:
            maker, *others = [ids[number] for number in self._plan.members_of(n)]
            async with room:
                return await api.ask(
                    "POST", "/conversations/private", {"userIds": others}, user=maker
                )

        numbers = range(self._plan.conversations)
        async with asyncio.TaskGroup() as group:
            found = [group.create_task(conversation(n)) for n in numbers]
        for task in found:
            self._talks.append(task.result()["id"])
            self._bases[self._talks[-1]] = task.result()["lastSeq"]
        self._targets = dict(self._bases)

    @asynccontextmanager
    async def connected(self, http: aiohttp.ClientSession, target: Target) -> AsyncIterator[None]:
        """Keep the users connected while the context is entered.

        Raises CommandFailed or RefusedByServer if no user could connect.
        """
        plan = self._plan
        own: list[dict[str, int]] = [{} for _ in range(plan.users)]
        for n, talk in enumerate(self._talks):
            for number in plan.members_of(n):
                own[number][talk] = self._bases[talk]
        self._users = [
            LoadUser(
                user_id,
                self._tally,
                self._due,
                own[n],
                partial(ReconnectingSocket, http, target.ws_urls),
                partial(target.token, user_id),
            )
            for n, user_id in enumerate(plan.user_ids())
        ]
        async with asyncio.TaskGroup() as lives:
            living = []
            began = time.perf_counter()
            for n, user in enumerate(self._users):
                due = began + plan.ramp_s * n / plan.users
                # Also when late (sleep(0)): other tasks must get a turn.
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                living.append(lives.create_task(user.live()))
            try:
                await self._all_there(living)
                yield
            finally:
                for life in living:
                    life.cancel()

    def somebody(self, n: int) -> tuple[str, LoadUser | None]:
        """The next conversation and a random connected member; None if no member has connected."""
        talk = n % len(self._talks)
        numbers = self._plan.members_of(talk)
        chosen = self._users[random.choice(numbers)]
        if not chosen.been_up:
            users = (self._users[number] for number in numbers)
            chosen = next((user for user in users if user.been_up), chosen)
        return self._talks[talk], chosen if chosen.been_up else None

    def acknowledged(self, conversation: str, seq: int) -> None:
        """Expect the message at every member."""
        self._targets[conversation] = max(self._targets[conversation], seq)

    async def settled(self) -> None:
        """Return when everything is delivered, or after the settle time."""
        for _ in range(int(self._plan.settle_s / LOOK_S)):
            if not lacking(self._there, self._targets):
                return
            await asyncio.sleep(LOOK_S)

    def count(self) -> None:
        """Store the numbers of connected users and of expected and lost deliveries in the tally."""
        self._tally.there = len(self._there)
        self._tally.lost = lacking(self._there, self._targets)
        self._tally.expected = sum(
            self._targets[talk] - received.base
            for user in self._there
            for talk, received in user.received.items()
        )

    @property
    def _there(self) -> Sequence[LoadUser]:
        return [user for user in self._users if user.been_up]

    async def _all_there(self, living: Sequence[asyncio.Task[None]]) -> None:
        for _ in range(int(PATIENCE_S / LOOK_S)):
            pairs = zip(self._users, living, strict=True)
            if all(user.been_up or life.done() for user, life in pairs):
                break
            if not self._there and all(user.failed for user in self._users):
                break  # A single failure may be bad luck; if all fail, no server is listening.
            await asyncio.sleep(LOOK_S)
        if not self._there:
            if refused := next((user.refused for user in self._users if user.refused), None):
                raise refused
            why = ", ".join(self._tally.errors) or "no answer"
            raise CommandFailed(
                f"No user could connect ({why}): check --ws-url and the server's log."
            )
