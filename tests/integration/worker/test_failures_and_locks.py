"""Retries, locks, and jobs whose worker vanished; due times are read from what is stored, not waited for."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until, wait_until_async
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue, Unrecoverable, exponential, fixed
from toril.engine.maintenance import recover_stalled


@pytest.mark.requirement("T13", "X-04")
async def test_failures_are_repeated_with_growing_pauses(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task(attempts=4, backoff=exponential(60))
    async def breaks() -> None:
        raise ValueError(f"attempt {Job.current().attempt}")

    handle = await breaks.enqueue()
    async with worker(tasks):
        for attempt, pause_ms in ((1, 60_000), (2, 120_000), (3, 240_000)):

            async def is_delayed(attempts_made: int = attempt) -> bool:
                return stored.places() == {"delayed": ["1"]} and stored.hash("1")["atm"] == str(attempts_made)

            await wait_until_async(is_delayed, f"attempt {attempt} to fail")
            fields = stored.hash("1")
            assert fields["failedReason"] == f"attempt {attempt}"
            assert fields["delay"] == str(pause_ms)
            due_ms = stored.raw.zscore(stored.keys.delayed, "1") // 4096
            assert pause_ms <= due_ms - int(fields["processedOn"]) < pause_ms + 30_000
            # Its time has come: as if the pause were over.
            stored.raw.zadd(stored.keys.delayed, {"1": 1})
            stored.raw.zadd(stored.keys.marker, {"1": 1})
        with pytest.raises(JobFailedError, match="attempt 4"):
            await handle.result(30)
    assert (stored.hash("1")["atm"], stored.hash("1")["ats"]) == ("4", "4")
    assert len(json.loads(stored.hash("1")["stacktrace"])) == 4
    assert stored.event_names().count("failed") == 1
    assert stored.event_names().count("retries-exhausted") == 1


async def test_without_a_backoff_the_next_attempt_is_at_once(tasks: Queue, worker: StartWorker) -> None:
    @tasks.task(attempts=3)
    async def breaks_twice(*, job: Job = Job.current()) -> int:
        if job.attempt < 3:
            raise ValueError("not yet")
        return job.attempt

    async with worker(tasks):
        assert await (await breaks_twice.enqueue()).result(30) == 3


@pytest.mark.requirement("Z-29")
async def test_unrecoverable_fails_at_once(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task(attempts=5, backoff=fixed(60))
    def breaks() -> None:
        raise Unrecoverable("no such user")

    async with worker(tasks):
        with pytest.raises(JobFailedError, match="no such user"):
            await (await breaks.enqueue()).result(30)
    assert stored.hash("1")["atm"] == "1"
    assert "retries-exhausted" not in stored.event_names()


async def test_locks_are_renewed_while_a_job_runs(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    go = asyncio.Event()

    @tasks.task
    async def waits() -> str:
        await go.wait()
        return "mine all the time"

    async def is_renewed() -> bool:
        # The check marks what is active; only a renewal takes the mark away.
        return not stored.raw.exists(stored.keys.stalled)

    async with worker(tasks, lock_ms=60_000, lock_renew_ms=50):
        handle = await waits.enqueue()
        await wait_until_async(lambda: _is_active(stored), "the job to run")
        for _ in range(3):
            stored.raw.pexpire(stored.keys.lock("1"), 20_000)
            stored.raw.sadd(stored.keys.stalled, "1")
            await wait_until_async(is_renewed, "a renewal")
            assert stored.raw.pttl(stored.keys.lock("1")) > 20_000
        go.set()
        assert await handle.result(30) == "mine all the time"


@pytest.mark.requirement("T06")
async def test_a_lost_lock_cancels_a_coroutine_and_drops_its_result(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    runs, cancelled = asyncio.Event(), asyncio.Event()

    @tasks.task
    async def waits() -> str:
        runs.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            return "ignored"
        raise AssertionError("unreachable")

    async with worker(tasks, lock_ms=1000, lock_renew_ms=50):
        await waits.enqueue()
        # Not only taken: a lock that is lost before its job begins keeps that from beginning.
        await asyncio.wait_for(runs.wait(), 30)
        stored.raw.set(stored.keys.lock("1"), "another")
        await asyncio.wait_for(cancelled.wait(), 30)
    assert stored.places() == {"active": ["1"]}, "it is the other's now"
    assert stored.raw.get(stored.keys.lock("1")) == "another"


async def test_a_lost_lock_is_shown_to_a_thread(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    runs, seen = threading.Event(), threading.Event()

    @tasks.task
    def looks(*, job: Job = Job.current()) -> str:
        runs.set()
        wait_until(lambda: job.is_cancelled, "the lock to be lost")
        seen.set()
        return "ignored"

    async with worker(tasks, lock_ms=1000, lock_renew_ms=50):
        await looks.enqueue()
        await asyncio.to_thread(runs.wait, 30)
        stored.raw.set(stored.keys.lock("1"), "another")
        await asyncio.to_thread(seen.wait, 30)
    assert seen.is_set()
    assert stored.places() == {"active": ["1"]}


async def test_a_lock_that_ran_out_unnoticed_does_not_cost_the_result(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    """No renewal came in time (a blocked loop), but nobody else has the job."""

    @tasks.task(inline=True)
    def blocks() -> str:
        stored.raw.delete(stored.keys.lock("1"))
        return "done once"

    async with worker(tasks):
        assert await (await blocks.enqueue()).result(30) == "done once"
    assert stored.hash("1")["ats"] == "1"


async def test_a_finish_refused_to_another_is_dropped(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task(inline=True)
    def late(*, job: Job = Job.current()) -> str:
        if job.id == "1":
            stored.raw.set(stored.keys.lock("1"), "another")
        return "late"

    async with worker(tasks):
        await late.enqueue()
        await (await late.enqueue()).result(30)
    assert stored.places() == {"active": ["1"], "completed": ["2"]}


@pytest.mark.requirement("T12")
async def test_jobs_of_a_vanished_worker_are_recovered_without_a_charge(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def step(*, job: Job = Job.current()) -> int:
        return job.attempt

    handle = await step.enqueue()
    await stored.take_one()
    stored.raw.delete(stored.keys.lock("1"))
    async with worker(tasks, stalled_interval_ms=100):
        assert await handle.result(30) == 1
    assert (stored.hash("1")["stc"], stored.hash("1")["atm"], stored.hash("1")["ats"]) == ("1", "1", "2")


@pytest.mark.requirement("T11")
async def test_a_job_that_stalls_too_often_fails_without_being_run(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task(attempts=5)
    async def poison() -> None:
        raise AssertionError("runs never")

    handle = await poison.enqueue()
    for _ in range(2):
        await stored.take_one()
        stored.raw.delete(stored.keys.lock("1"))
        for _ in range(2):
            stored.raw.delete(stored.keys.stalled_check)
            await recover_stalled.run_once(stored.connection, stored.keys)
    async with worker(tasks):
        with pytest.raises(JobFailedError, match="job stalled more than allowable limit"):
            await handle.result(30)
    assert "defa" not in stored.hash("1")


async def test_a_job_that_was_started_too_often_fails(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    @tasks.task(attempts=5)
    async def poison() -> None:
        raise AssertionError("runs never")

    handle = await poison.enqueue()
    stored.raw.hset(stored.keys.job("1"), "ats", 2)
    async with worker(tasks, max_started_attempts=2):
        with pytest.raises(JobFailedError, match="job started more than allowable limit"):
            await handle.result(30)


async def test_a_parent_with_pending_children_cannot_complete(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task(attempts=3)
    async def parent() -> str:
        return "too early"

    handle = await parent.enqueue()
    stored.raw.sadd(stored.keys.job("1") + ":dependencies", "bull:other:1")
    async with worker(tasks):
        with pytest.raises(JobFailedError, match="has child jobs that have not ended"):
            await handle.result(30)
    assert stored.places() == {"failed": ["1"]}


async def _is_active(stored: EngineQueue) -> bool:
    return bool(stored.raw.exists(stored.keys.lock("1")))
