"""A server that forgets its scripts again and again while producers and workers are at it: nobody notices."""

from __future__ import annotations

import asyncio
import collections

import pytest

from support import invariants, soak
from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue

FLUSH_SECONDS = 0.1


@pytest.mark.requirement("T36")
@pytest.mark.parametrize("flushes", soak.lengths(12, 600))
async def test_nobody_notices(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, caplog: pytest.LogCaptureFixture, flushes: int
) -> None:
    runs: collections.Counter[str] = collections.Counter()
    # The events are counted at the end.
    stored.raw.hset(stored.keys.meta, "opts.maxLenEvents", 10_000_000)

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        runs[job.id] += 1
        await job.progress(50)
        await asyncio.gather(*(job.log(f"row {number}") for number in range(3)))
        if job.attempt == 1 and int(job.id) % 5 == 0:
            raise ValueError("as planned")

    flushed = 0
    added: list[str] = []

    async def flush_loop() -> None:
        nonlocal flushed
        while True:
            await asyncio.to_thread(stored.raw.script_flush)
            flushed += 1
            await asyncio.sleep(FLUSH_SECONDS)

    async def add_loop(pause: float) -> None:
        while flushed < flushes:
            # Sent at once: one pipeline on one connection.
            handles = await asyncio.gather(*(step.options(attempts=2).enqueue() for _ in range(20)))
            added.extend(handle.id for handle in handles)
            handle = await asyncio.to_thread(tasks.sync.add, "step", {}, {"attempts": 2})
            added.append(handle.id)
            await asyncio.sleep(pause)

    flushing = asyncio.create_task(flush_loop())
    async with worker(tasks, concurrency=10, lock_renew_ms=20), worker(tasks, concurrency=1, stalled_interval_ms=100):
        await asyncio.gather(add_loop(0.05), add_loop(0.02))

        async def is_done() -> bool:
            return set(stored.places()) <= {"completed", "failed"}

        await wait_until_async(is_done, "all jobs to end", timeout_seconds=60)
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    kept = invariants.assert_sound(stored.raw, tasks.name)
    assert set(kept.containers["completed"]) == set(added)
    assert all(runs[job_id] == (2 if int(job_id) % 5 == 0 else 1) for job_id in added)
    assert [record.message for record in caplog.records if "Redis fails" in record.message] == []
