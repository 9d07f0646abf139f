"""Tasks end, even if a cancellation is lost."""

from __future__ import annotations

import asyncio

import pytest

from chatserver import tasks


class Deaf:
    """A task that loses the first cancellations, as a library in between can."""

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


async def test_a_caller_cancelled_while_ending_a_task_ends_it_first(
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


async def test_the_failure_of_the_task_does_not_reach_the_caller() -> None:
    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await tasks.end(task)
    assert isinstance(task.exception(), ValueError)
