"""The queue of background jobs, with kinds of the tests' own. tests/faults/test_jobs.py has the kinds of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from chatserver.chat.job import DONE, Job, Progress, job_id
from chatserver.chat.jobs import LEASE_S, SHARE, Jobs, PageOfJobs
from chatserver.mongo import Mongo, new_id
from tests.support.patience import until


@pytest_asyncio.fixture
async def mongo(mongo_url: str, worker: str) -> AsyncIterator[Mongo]:
    mongo = Mongo(mongo_url, f"{worker}-jobs-{new_id()}")
    await mongo.start()
    yield mongo
    await mongo.close()


async def add(mongo: Mongo, jobs: Jobs, kind: str, subject: str, **more: Any) -> Job:
    return await mongo.transaction(lambda session: jobs.add(kind, subject, session, **more))


async def test_jobs_take_turns_and_leave_time_for_requests(mongo: Mongo) -> None:
    jobs = Jobs(mongo)
    steps: list[str] = []

    async def count_to_five(job: Job) -> Progress:
        steps.append(job.subject)
        await asyncio.sleep(0.05)
        count = job.state.get("count", 0) + 1
        return Progress(1, {"count": count}) if count < 5 else DONE

    for subject in ("a", "b", "$c"):
        await add(mongo, jobs, "counting", subject, in_s=0.0, total=5)
    began = time.monotonic()
    await jobs.start({"counting": count_to_five}, recurring=[])
    await until(lambda: mongo.jobs.count_documents({}), 0)
    took = time.monotonic() - began
    await jobs.close()
    assert len(steps) == 15
    for n in range(0, 15, 3):
        assert sorted(steps[n : n + 3]) == ["$c", "a", "b"]
    assert took >= 14 * 0.05 / SHARE


async def test_a_step_that_fails_is_repeated_from_its_state_with_a_longer_pause(
    mongo: Mongo,
) -> None:
    jobs = Jobs(mongo)
    seen: list[tuple[int, Any]] = []

    async def fail_twice(job: Job) -> Progress:
        seen.append((job.attempts, job.state.get("at")))
        if "at" not in job.state:
            return Progress(7, {"at": "the place"})
        if job.attempts < 2:
            raise ValueError("a text that may be secret")
        return DONE

    await add(mongo, jobs, "failing", "a", in_s=0.0)
    await jobs.start({"failing": fail_twice}, recurring=[])
    await until(lambda: mongo.jobs.count_documents({"attempts": 1}), 1)
    (job,), cursor = await jobs.page(PageOfJobs())
    about = {key: job[key] for key in ("done", "attempts", "error")}
    assert (about, cursor) == ({"done": 7, "attempts": 1, "error": "ValueError"}, None)
    await until(lambda: mongo.jobs.count_documents({}), 0)
    await jobs.close()
    assert seen == [(0, None), (0, "the place"), (1, "the place"), (2, "the place")]


async def test_a_job_that_is_added_again_begins_again_and_its_worker_is_fenced(
    mongo: Mongo,
) -> None:
    jobs, entered, go_on = Jobs(mongo), asyncio.Event(), asyncio.Event()
    begun = 0

    async def wait(job: Job) -> Progress:
        nonlocal begun
        begun += 1
        if begun == 1:
            entered.set()
            await go_on.wait()
            return Progress(1, {"old": True})
        assert job.state == {}
        return DONE

    await jobs.start({"waiting": wait}, recurring=[])
    first = await add(mongo, jobs, "waiting", "a")
    working = asyncio.create_task(jobs.finish(first))
    await entered.wait()
    second = await add(mongo, jobs, "waiting", "a")
    go_on.set()
    assert not await working, "another has the job"
    doc = await mongo.jobs.find_one({"_id": job_id("waiting", "a")})
    assert doc
    assert (doc["done"], doc["state"]) == (0, {})
    assert await jobs.finish(second)
    assert await mongo.jobs.count_documents({}) == 0
    await jobs.close()


async def test_jobs_of_newer_versions_are_left_alone_and_recurring_ones_stay(mongo: Mongo) -> None:
    jobs = Jobs(mongo)
    rounds = 0

    async def rest(_: Job) -> Progress:
        nonlocal rounds
        rounds += 1
        return Progress(again_in_s=3600)

    await add(mongo, jobs, "from the future", "x" * 128, in_s=0.0)
    await jobs.start({"regular": rest}, recurring=["regular"])
    another = Jobs(mongo)
    await another.start({"regular": rest}, recurring=["regular"])
    await until(lambda: mongo.jobs.count_documents({"until": {"$exists": True}}), 0)
    await asyncio.sleep(0.5)
    await jobs.close()
    await another.close()
    assert rounds == 1
    page, cursor = await jobs.page(PageOfJobs(limit=1))
    more, end = await jobs.page(PageOfJobs(limit=1, cursor=cursor))
    found = [(job["kind"], job["subject"]) for job in (*page, *more)]
    assert (found, end) == ([("from the future", "x" * 128), ("regular", "")], None)


async def test_a_node_that_stops_gives_up_its_job(mongo: Mongo) -> None:
    jobs, entered = Jobs(mongo), asyncio.Event()

    async def never_end(_: Job) -> Progress:
        entered.set()
        await asyncio.Event().wait()
        return DONE

    await add(mongo, jobs, "endless", "a", in_s=0.0)
    await jobs.start({"endless": never_end}, recurring=[])
    await entered.wait()
    await jobs.close()

    async def done(_: Job) -> Progress:
        return DONE

    another = Jobs(mongo)
    began = time.monotonic()
    await another.start({"endless": done}, recurring=[])
    await until(lambda: mongo.jobs.count_documents({}), 0)
    assert time.monotonic() - began < LEASE_S / 2, "it need not wait for the lease"
    await another.close()
