"""Jobs: work that takes longer than a request. Jobs are stored in MongoDB and continue on any node until they are done.

A node works on a job in steps, and has its lease during a step. When the node dies, freezes or cannot reach the
database, the lease runs out and another node continues. A step that fails is repeated with back-off, for ever.

A node that was frozen may finish its step beside its successor. So every step must be idempotent: it does nothing that
has been done already. The progress of such a node is not stored.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog

from .. import tasks
from ..errors import ChatError, Unavailable
from ..mongo import (
    AFTER,
    CLOSE_S,
    DatabaseUnavailable,
    Document,
    Mongo,
    PyMongoError,
    Session,
    new_id,
)
from ..mongo.lease import ALIVE, after
from ..observability.metrics import Families, Histograms, Labels
from .job import Job, Progress, Step, job_view, new_job

log = structlog.get_logger(__name__)

LEASE_S = 10.0
STEP_S = 6.0
"""Time limit of a step. It leaves time to store the result before the lease runs out."""
POLL_S = 2.0
"""How often an idle node looks for jobs. The jobs of a dead node continue within LEASE_S + POLL_S."""
SHARE = 2 / 3
"""The fraction of the time that a node spends on jobs, at most: after a step it pauses, so that requests come first."""
AT_ONCE_S = 1.0
"""How long a request works on the job that it has added, before it leaves the rest to the background."""
RETRY_S = 1.0
MAX_RETRY_S = 300.0
COUNT_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class PageOfJobs:
    limit: int = 50
    cursor: str | None = None


class Jobs:
    """The queue of jobs. A kind of job is a Step, registered in `start`.

    Jobs take turns: a node works on one at a time, and a job that has had its step goes to the end of the queue.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._kinds: Mapping[str, Step] = {}
        self._wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._job: Job | None = None
        """The job that this node works on."""
        self._counted_at = 0.0
        self._unfinished: dict[str, float] = {}
        self._failing: dict[str, float] = {}
        self._steps: dict[Labels, float] = {}
        self._items: dict[str, float] = {}
        self._took = Histograms()

    async def start(self, kinds: Mapping[str, Step], *, recurring: Sequence[str]) -> None:
        """Work on jobs of these kinds until `close`. Jobs of other kinds are left to newer nodes.

        `recurring`: kinds that have one job, without a subject, which is never done but pauses.
        """
        self._kinds = kinds
        for kind in kinds:
            self._items[kind] = 0
            self._steps |= dict.fromkeys(((kind, "ok"), (kind, "failed"), (kind, "lost")), 0)
        if recurring:
            await self._mongo.insert_missing("jobs", [new_job(kind, "") for kind in recurring])
        self._task = tasks.keep("work on jobs", self._work)

    async def close(self) -> None:
        await tasks.end(self._task)
        await self._give_up(self._job)

    def watch(self, metrics: Families) -> None:
        metrics.gauges(
            "chat_jobs_unfinished",
            "Background jobs that are not done, by kind: the same on every node.",
            "kind",
            lambda: self._unfinished,
        )
        metrics.gauges(
            "chat_jobs_failing",
            "Background jobs whose last step failed, by kind: the same on every node.",
            "kind",
            lambda: self._failing,
        )
        metrics.counters(
            "chat_jobs_steps_total",
            "Steps of background jobs, by kind and outcome: ok, failed, lost (another node took the job over).",
            ("kind", "outcome"),
            lambda: self._steps,
        )
        metrics.counters(
            "chat_jobs_items_total",
            "Items that background jobs have dealt with, by kind.",
            "kind",
            lambda: self._items,
        )
        metrics.histograms(
            "chat_jobs_step_seconds",
            "Duration of the steps of background jobs, by kind.",
            "kind",
            self._took,
        )

    # --- adding ---------------------------------------------------------------------------------

    async def add(
        self,
        kind: str,
        subject: str,
        session: Session,
        *,
        total: int | None = None,
        state: Mapping[str, Any] | None = None,
        in_s: float | None = None,
    ) -> Job:
        """Store a job, in the transaction of the change that makes it necessary.

        The job belongs to this node, which calls `finish` after the commit. With `in_s` it belongs to nobody, and
        begins after so many seconds. If there is a job of the same kind and subject, it begins again.
        """
        doc = new_job(kind, subject, total, state)
        doc |= {"owner": new_id(), "until": after(LEASE_S), "runAt": "$$NOW"}
        if in_s is not None:
            doc |= {"until": "$$REMOVE", "runAt": after(in_s)}
        # Literally: a subject may begin with a $.
        texts = {key: {"$literal": doc[key]} for key in ("subject", "state", "error", "total")}
        stored: Document | None = await self._mongo.jobs.find_one_and_update(
            {"_id": doc.pop("_id")},
            [{"$set": doc | texts}],
            upsert=True,
            return_document=AFTER,
            session=session,
        )
        assert stored is not None  # noqa: S101  an upsert
        return Job.of(stored)

    async def finish(self, job: Job) -> bool:
        """Work on a job that was just added, for AT_ONCE_S at most. Returns False if the background has to go on."""
        until = time.monotonic() + AT_ONCE_S
        while (progress := await self._step(job, keep=True)) is not None:
            if progress.again_in_s != 0:
                return True
            if time.monotonic() > until:
                await self._give_up(job)
                break
            job = replace(job, state=progress.state)
        self._wakeup.set()
        return False

    async def _give_up(self, job: Job | None) -> None:
        """Give up the lease, so that no node has to wait until it runs out."""
        if job is not None:
            with suppress(PyMongoError):
                async with self._mongo.deadline(CLOSE_S):
                    mine = {"_id": job.id, "owner": job.owner}
                    await self._mongo.jobs.update_one(mine, {"$unset": {"until": ""}})

    async def page(self, asked: PageOfJobs) -> tuple[list[Mapping[str, Any]], str | None]:
        """Returns jobs by id, and the cursor of the next page."""
        where = {"_id": {"$gt": asked.cursor}} if asked.cursor is not None else {}
        found = self._mongo.jobs.find(where).sort("_id").limit(asked.limit + 1)
        docs = [doc async for doc in found]
        more = len(docs) > asked.limit
        docs = docs[: asked.limit]
        return [job_view(doc) for doc in docs], docs[-1]["_id"] if more else None

    # --- working --------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            began = time.monotonic()
            self._wakeup.clear()
            job: Job | None = None
            try:
                async with self._mongo.deadline():
                    job = await self._claim()
                    if began - self._counted_at > COUNT_EVERY_S:
                        await self._count()
            except DatabaseUnavailable:
                log.warning("jobs wait for the database")
            if job is not None:
                self._job = job
                await self._step(job)
                self._job = None
                await asyncio.sleep((time.monotonic() - began) * (1 / SHARE - 1))
                continue
            try:
                async with asyncio.timeout(POLL_S * random.uniform(0.8, 1.0)):
                    await self._wakeup.wait()
            except TimeoutError:
                continue

    async def _claim(self) -> Job | None:
        """Returns the job that has waited longest, and takes its lease."""
        due = {"$and": [{"$not": ALIVE}, {"$lte": ["$runAt", "$$NOW"]}]}
        doc = await self._mongo.jobs.find_one_and_update(
            {"kind": {"$in": list(self._kinds)}, "$expr": due},
            [{"$set": {"owner": new_id(), "until": after(LEASE_S)}}],
            sort=[("runAt", 1)],
            return_document=AFTER,
        )
        return Job.of(doc) if doc is not None else None

    async def _step(self, job: Job, *, keep: bool = False) -> Progress | None:
        """Perform a step and store its progress. Returns None if it failed, or if the job is another node's now.

        `keep`: keep the lease for the next step, if the step asks for no pause.
        """
        began = time.perf_counter()
        progress: Progress | None = None
        try:
            async with self._mongo.deadline(STEP_S):
                progress = await self._kinds[job.kind](job)
            self._items[job.kind] += progress.done
            pause_s = progress.again_in_s
            change: Document = {
                "state": {"$literal": progress.state},
                "done": {"$add": ["$done", progress.done]},
                "attempts": 0,
                "error": None,
            }
        except Exception as error:  # whatever it is: the job is repeated until it is done
            pause_s = min(RETRY_S * 2 ** min(job.attempts, 10), MAX_RETRY_S)
            change = {"attempts": job.attempts + 1, "error": {"$literal": _name(error)}}
            if isinstance(error, (DatabaseUnavailable, Unavailable)):
                log.warning("a job waits for the database", job=job.id, again_in_s=pause_s)
            else:
                log.exception("a step of a job failed", job=job.id, again_in_s=pause_s)
        self._took[job.kind].observe(time.perf_counter() - began)
        outcome = "ok" if progress else "failed"
        try:
            async with self._mongo.deadline():
                if not await self._store(job, change, pause_s, keep=keep and not pause_s):
                    log.warning("another node has taken over a job", job=job.id)
                    outcome, progress = "lost", None
        except DatabaseUnavailable:
            # The lease runs out, and the step is repeated.
            log.warning("the progress of a job could not be stored", job=job.id)
            outcome, progress = "failed", None
        self._steps[job.kind, outcome] += 1
        return progress

    async def _store(
        self, job: Job, change: Document, pause_s: float | None, *, keep: bool
    ) -> bool:
        """Store the result of a step, and give up the lease unless `keep`. Returns False if it was lost."""
        mine = {"_id": job.id, "owner": job.owner}
        if pause_s is None:
            return (await self._mongo.jobs.delete_one(mine)).deleted_count == 1
        change |= {"runAt": after(pause_s), "until": after(LEASE_S) if keep else "$$REMOVE"}
        return (await self._mongo.jobs.update_one(mine, [{"$set": change}])).matched_count == 1

    async def _count(self) -> None:
        unfinished, failing = dict.fromkeys(self._kinds, 0.0), dict.fromkeys(self._kinds, 0.0)
        failed = {"$cond": [{"$gt": ["$attempts", 0]}, 1, 0]}
        groups = [{"$group": {"_id": "$kind", "all": {"$sum": 1}, "failing": {"$sum": failed}}}]
        async for doc in await self._mongo.jobs.aggregate(groups):
            unfinished[doc["_id"]], failing[doc["_id"]] = doc["all"], doc["failing"]
        self._unfinished, self._failing = unfinished, failing
        self._counted_at = time.monotonic()


def _name(error: Exception) -> str:
    """Returns a name without contents: the text of an error of the database may show a message."""
    return error.code if isinstance(error, ChatError) else type(error).__name__
