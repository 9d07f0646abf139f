"""All of them together: set up, connected over the ramp, talking, and waited for at the end."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp

from ..client.api import Api
from ..client.commands import Target
from ..client.failures import Failed, Refused
from ..client.line import Line
from .member import Member, lacking
from .plan import Plan
from .tally import Tally

SYNC_BATCH = 1000
AT_ONCE = 16
"""Requests of the setting up that are under way."""
PATIENCE_S = 15.0
"""For those who connect, and for what is under way at the end."""
LOOK_S = 0.05
MOST_UNDER_WAY = 20_000


class Crowd:
    def __init__(self, plan: Plan, tally: Tally) -> None:
        self._plan = plan
        self._tally = tally
        self._run = secrets.token_hex(4)
        self._due: list[float] = []
        self._members: Sequence[Member] = ()
        self._talks: list[str] = []
        self._targets: dict[str, int] = {}
        self._bases: dict[str, int] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def set_up(self, api: Api) -> None:
        """Users and conversations, those of an earlier run if there are any. Raises Refused, Away."""
        ids = self._plan.user_ids()
        for n in range(0, len(ids), SYNC_BATCH):
            users = [{"externalUserId": one, "status": "active"} for one in ids[n : n + SYNC_BATCH]]
            done = await api.ask("POST", "/users/sync/batch", {"users": users})
            for failed in done["failed"]:
                raise Refused(failed["error"])
        room = asyncio.Semaphore(AT_ONCE)

        async def conversation(n: int) -> Any:
            maker, *others = [ids[one] for one in self._plan.members_of(n)]
            async with room:
                return await api.ask(
                    "POST", "/conversations/private", {"userIds": others}, user=maker
                )

        numbers = range(self._plan.conversations)
        async with asyncio.TaskGroup() as group:
            found = [group.create_task(conversation(n)) for n in numbers]
        for one in found:
            self._talks.append(one.result()["id"])
            self._bases[self._talks[-1]] = one.result()["lastSeq"]
        self._targets = dict(self._bases)

    @asynccontextmanager
    async def connected(self, http: aiohttp.ClientSession, target: Target) -> AsyncIterator[None]:
        """Everybody is, as far as the server lets them. Raises Failed when nobody is."""
        plan = self._plan
        own: list[dict[str, int]] = [{} for _ in range(plan.users)]
        for n, talk in enumerate(self._talks):
            for one in plan.members_of(n):
                own[one][talk] = self._bases[talk]
        self._members = [
            Member(
                user,
                self._tally,
                self._started,
                own[n],
                partial(Line, http, target.ws_urls),
                partial(target.token, user),
            )
            for n, user in enumerate(plan.user_ids())
        ]
        async with asyncio.TaskGroup() as lives:
            living = []
            began = time.perf_counter()
            for n, member in enumerate(self._members):
                await _until(began + plan.ramp_s * n / plan.users)
                living.append(lives.create_task(member.live()))
            try:
                await self._all_there(living)
                yield
            finally:
                for life in living:
                    life.cancel()

    async def talk(self) -> None:
        """Say what there is to say, for as long as was planned; everything is acknowledged then."""
        end = time.perf_counter() + self._plan.seconds
        try:
            if self._plan.rate is None:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._plan.in_flight):
                        group.create_task(self._one_after_the_other(end))
            else:
                await self._by_the_clock(end, self._plan.rate)
        finally:
            # Also when this is cut short: what was sent is waited for.
            if self._sending:
                await asyncio.wait(self._sending, timeout=PATIENCE_S)

    async def settle(self) -> tuple[int, int]:
        """Wait until everything has been delivered, or too long: what was expected, what is lost."""
        for _ in range(int(self._plan.settle_s / LOOK_S)):
            if not lacking(self._members, self._targets):
                break
            await asyncio.sleep(LOOK_S)
        lost = lacking(self._members, self._targets)
        expected = sum(
            self._targets[talk] - heard.base
            for member in self._members
            if member.been_up
            for talk, heard in member.heard.items()
        )
        return expected, lost

    async def _all_there(self, living: Sequence[asyncio.Task[None]]) -> None:
        for _ in range(int(PATIENCE_S / LOOK_S)):
            pairs = zip(self._members, living, strict=True)
            if all(one.been_up or life.done() for one, life in pairs):
                break
            await asyncio.sleep(LOOK_S)
        if not any(one.been_up for one in self._members):
            why = ", ".join(self._tally.errors) or "no answer"
            raise Failed(
                f"Nobody could connect ({why}): see --ws-url, and what the server's log says."
            )

    async def _by_the_clock(self, end: float, rate: float) -> None:
        began, n = time.perf_counter(), 0
        while (due := began + n / rate) < end:
            await _until(due)
            n += 1
            if len(self._sending) >= MOST_UNDER_WAY:
                # To take more would be to measure this program's memory.
                self._tally.errors["not sent: too much under way"] += 1
                continue
            # Times count from when it was due: were this program or the server late, it would not
            # show otherwise.
            task = asyncio.create_task(self._say(n, due))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _one_after_the_other(self, end: float) -> None:
        while (due := time.perf_counter()) < end:
            task = asyncio.create_task(self._say(len(self._due), due))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            # By itself, so that it is finished when this is cut short; and not for ever, should the
            # server have no place for this user any more.
            await asyncio.wait([task], timeout=end + PATIENCE_S - due)

    async def _say(self, n: int, due: float) -> None:
        number = n % len(self._talks)
        talk = self._talks[number]
        member = self._somebody(self._plan.members_of(number))
        if member is None:
            self._tally.errors["not sent: nobody there"] += 1
            return
        once = f"{self._run}-{len(self._due)}"
        self._due.append(due)
        self._tally.sent += 1
        text = f"{once} ".ljust(self._plan.size, "·")
        seq = await member.say(talk, text, once, due)
        if seq is not None:
            self._targets[talk] = max(self._targets[talk], seq)

    def _somebody(self, of: Sequence[int]) -> Member | None:
        chosen = self._members[random.choice(of)]
        if chosen.been_up:
            return chosen
        return next((self._members[one] for one in of if self._members[one].been_up), None)

    def _started(self, once: str | None) -> float | None:
        run, _, number = (once or "").partition("-")
        return self._due[int(number)] if run == self._run else None


async def _until(moment: float) -> None:
    # Late or not, others have a turn.
    await asyncio.sleep(max(0.0, moment - time.perf_counter()))
