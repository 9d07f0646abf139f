"""Runs cells of the table, and checks what must hold after each.

- Nothing that was acknowledged is lost, and no caller waits longer than the time that the server promises.
- Everything that happened is announced once to everybody connected whom it concerns, on both nodes, in order. So are
  messages to the Master Service.
- Nothing is announced that did not happen, and nothing to other people.
- Within RECOVERY_S after the failure the same operation works, people talk in all conversations, and no node has a
  write of unknown outcome.

The cells of one failure run at the same time, each with people of its own.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ..patience import PATIENCE_S, slowness
from ..people import Refused
from .failures import Failure
from .operations import Operation
from .stage import TEMPORARY, Scene, Stage, abort, patiently, until

RECOVERY_S = 10.0
MAX_RECOVERY_S = 40.0
"""On the slowest machine. MongoDB ends transactions after 60 s, which would hide those that the server forgets."""
ANSWER_S = 1.0
"""The time that an answer may take beyond the time-out of the server."""
ACKNOWLEDGED = "acknowledged"
REPEATED = ("NOT_FOUND", "CONFLICT")
"""The answers to the repeat of a removal that has happened."""


class Broken(Exception):
    """A promise is broken."""


@dataclass
class Cell:
    operation: Operation
    failure: Failure
    scene: Scene
    settles_first: bool
    """Clients wait until the outcome is known, and find out, before the repeat. Otherwise they repeat at once."""
    outcome: str = ""
    """How the attempt ended for its caller: acknowledged, gone, or the code of the refusal."""
    waits_for: str = ""
    fault: str = ""
    """The broken promise; empty if the cell is as it should be."""

    @property
    def name(self) -> str:
        return f"{self.operation.name} / {self.failure.name}"

    async def attempt(self) -> None:
        """The caller makes its attempt, while the failure lasts."""
        stage, stays = self.scene.stage, self.failure.caller_stays_s
        attempt = asyncio.create_task(self.operation.attempt(self.scene))
        patience_s = stays(stage) if stays else stage.timeout_s + ANSWER_S * slowness()
        await asyncio.wait([attempt], timeout=patience_s)
        if attempt.done():
            self.outcome = _outcome(attempt)
            return
        attempt.cancel()
        if stays is None:
            raise Broken(f"no answer within {patience_s:.1f} s")
        abort(self.scene.wire)
        await self.scene.wire.ended()
        self.outcome = "gone"

    async def recover(self, sure: asyncio.Future[None]) -> None:
        """The failure is over. `sure`: no node is in doubt about a write any more."""
        limit_s = min(RECOVERY_S * slowness(), MAX_RECOVERY_S)
        try:
            async with asyncio.timeout(limit_s):
                await self._recover(sure)
        except TimeoutError:
            seen = await self.scene.disagreements()
            raise Broken(f"waits for {self.waits_for} after {limit_s:.0f} s; {seen}") from None

    async def _recover(self, sure: asyncio.Future[None]) -> None:
        done, scene = self.operation.done, self.scene
        if self.outcome == ACKNOWLEDGED:
            self.waits_for = "what was acknowledged"
            await scene.until(done)
        if self.settles_first:
            self.waits_for = "the outcome"
            await asyncio.shield(sure)
            self.waits_for = "the announcements, before the repeat"
            await scene.all_agree()
        self.waits_for = "the operation to work"
        await until(self._works)
        self.waits_for = "what was acknowledged at last"
        await scene.until(done)
        await scene.talk()
        self.waits_for = "the announcements"
        await scene.all_agree()
        self.waits_for = "the webhooks"
        await until(scene.webhooks_agree)
        self.waits_for = "all outcomes"
        await asyncio.shield(sure)

    async def _works(self) -> bool:
        try:
            await self.operation.attempt(self.scene)
        except Refused as refusal:
            if refusal.code in TEMPORARY:
                return False
            if refusal.code in REPEATED and await self.operation.done(self.scene):
                return True
            raise
        return True

    async def remains(self) -> None:
        """Nothing has changed since, and nothing is announced any more."""
        for observer in self.scene.observers:
            await observer.do("ping")
        if found := await self.scene.disagreements():
            raise Broken("; ".join(found))
        if not await self.operation.done(self.scene):
            raise Broken("it was undone")


def _outcome(attempt: asyncio.Task[None]) -> str:
    try:
        attempt.result()
    except Refused as refusal:
        if refusal.code not in TEMPORARY:
            raise Broken(f"refused for ever: {refusal.error}") from None
        return str(refusal.code)
    return ACKNOWLEDGED


async def run(
    stage: Stage, operations: Sequence[Operation], failure: Failure, rng: random.Random
) -> list[Cell]:
    """Runs the cells of one failure. Returns them with their outcomes and faults."""
    async with asyncio.timeout(PATIENCE_S):
        scenes = await asyncio.gather(*[stage.scene() for _ in operations])
        cells = [
            Cell(operation, failure, scene, rng.random() < 0.5)
            for operation, scene in zip(operations, scenes, strict=True)
        ]
        await asyncio.gather(
            *[patiently(partial(cell.operation.prepare, cell.scene)) for cell in cells]
        )
        await asyncio.gather(*[scene.all_agree() for scene in scenes])
    async with failure.strikes(stage):
        await _each(cells, Cell.attempt)
    sure = asyncio.ensure_future(stage.sure())
    await _each(cells, lambda cell: cell.recover(sure))
    sure.cancel()
    await stage.nodes.settled()
    await _each(cells, Cell.remains)
    await asyncio.gather(*[scene.end() for scene in scenes])
    return cells


async def _each(cells: Sequence[Cell], step: Callable[[Cell], Awaitable[None]]) -> None:
    """Takes a step with each cell that has no fault yet."""

    async def take(cell: Cell) -> None:
        try:
            await step(cell)
        except Broken as broken:
            cell.fault = str(broken)
        except Exception:  # whatever a server answers, the other cells go on
            cell.fault = traceback.format_exc()

    await asyncio.gather(*[take(cell) for cell in cells if not cell.fault])
