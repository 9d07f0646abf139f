"""Reads that are made as one answer everybody who asked, at whatever moment."""

from __future__ import annotations

import asyncio

import pytest

from chatserver.mongo.gathered import AT_ONCE, BATCH, GatheredReads


async def length(keys: list[str]) -> dict[str, int]:
    return {key: len(key) for key in keys if key != "unknown"}


async def test_each_key_has_its_value() -> None:
    reads = GatheredReads(length)
    keys = [*("a" * n for n in range(1, 2 * BATCH)), "unknown", "a"]
    values = await asyncio.gather(*[reads.get(key) for key in keys])
    assert values == [*range(1, 2 * BATCH), None, 1]


async def test_a_read_is_asked_for_just_when_the_last_ones_end() -> None:
    """Between the last look of a task and the callbacks of its end."""
    reads = GatheredReads(length)

    async def ask_again() -> int | None:
        await reads.get("once")
        return await reads.get("again")

    asked: list[asyncio.Task[int | None]] = []
    for _ in range(AT_ONCE):
        asked.append(asyncio.create_task(ask_again()))
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await asyncio.gather(*asked) == [5] * AT_ONCE


async def test_an_error_reaches_everybody_and_the_next_read_works() -> None:
    broken = True

    async def read(keys: list[str]) -> dict[str, int]:
        if broken:
            raise LookupError
        return await length(keys)

    reads = GatheredReads(read)
    answers = await asyncio.gather(reads.get("a"), reads.get("bb"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError, LookupError]
    broken = False
    assert await reads.get("bb") == 2


async def test_a_caller_that_is_cancelled_disturbs_no_other() -> None:
    reads = GatheredReads(length)
    gone, other = (asyncio.create_task(reads.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await other == 1
    with pytest.raises(asyncio.CancelledError):
        await gone
