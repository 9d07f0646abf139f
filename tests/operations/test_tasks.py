"""Tasks end, also when a cancellation is lost on the way."""

from __future__ import annotations

import asyncio

import pytest

from chatserver import tasks


class Deaf:
    """Loses the first cancellations, as a library in between can."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not self.losses:
                    raise
                self.losses -= 1


async def test_a_lost_cancellation_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)
    deaf = Deaf(2)
    await asyncio.sleep(0)
    await tasks.end(deaf.task)
    assert deaf.task.cancelled()
    await tasks.end(deaf.task)
    await tasks.end(None)


async def test_who_is_cancelled_while_ending_a_task_ends_it_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.05)
    deaf = Deaf(1)
    await asyncio.sleep(0)
    ending = asyncio.create_task(tasks.end(deaf.task))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    assert ending.cancelled()
    assert deaf.task.cancelled()


async def test_a_failure_of_the_task_is_not_the_ender_s() -> None:
    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await tasks.end(task)
    assert isinstance(task.exception(), ValueError)
