"""Locks: renewed late, never, or by somebody who was asleep; and many workers for one job."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time

import pytest

from support import invariants
from support.contents import contents
from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue
from toril.engine.maintenance import recover_stalled
from toril.jobs.outcome import Finish

NEVER_MS = 3_600_000
LOCK_MS = 60_000


async def check(queue: EngineQueue) -> list[str]:
    queue.raw.delete(queue.keys.stalled_check)
    return await recover_stalled.run_once(queue.connection, queue.keys)


@pytest.mark.requirement("T06")
async def test_a_lock_renewed_at_95_per_cent_of_its_time_never_stalls(queue: EngineQueue) -> None:
    await queue.add()
    active = queue.worker("late", lock_ms=LOCK_MS)
    (job,) = (await active.take(1, "late:1")).jobs
    for _ in range(5):
        assert await check(queue) == []
        # So much of its time has gone by.
        queue.raw.pexpire(queue.keys.lock(job.id), LOCK_MS * 5 // 100)
        assert await active.extend_locks([job]) == set()
        assert queue.raw.pttl(queue.keys.lock(job.id)) > LOCK_MS // 2
    await queue.finish(Finish.completed(job, "1"))
    assert "stalled" not in queue.event_names()
    invariants.assert_sound(queue.raw, queue.keys.queue)


@pytest.mark.requirement("T05")
async def test_a_job_whose_lock_is_lost_before_its_turn_is_not_run(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    """It was taken with others that hold the loop up, one after the other."""
    runs: list[str] = []

    @tasks.task(inline=True)
    def step(*, job: Job = Job.current()) -> None:
        if not runs:
            stored.raw.set(stored.keys.lock("20"), "another's")
        runs.append(job.id)
        time.sleep(0.05)

    handles = [await step.enqueue() for _ in range(20)]
    async with worker(tasks, concurrency=40, lock_renew_ms=20):
        for handle in handles[:-1]:
            await handle.result(30)
    assert runs == [str(number) for number in range(1, 20)]


@pytest.mark.requirement("T05", "T06")
async def test_a_lock_renewed_at_105_per_cent_of_its_time_stalls_once_and_its_holder_is_stopped(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    cancelled: list[str | None] = []
    go = asyncio.Event()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> str:
        try:
            await go.wait()
        except asyncio.CancelledError:
            cancelled.append(job.record.processed_by)
            raise
        return f"by {job.record.processed_by}"

    handle = await step.enqueue()
    late = worker(tasks, name="late", lock_ms=200, lock_renew_ms=NEVER_MS, stalled_interval_ms=100)
    async with late as late_worker:

        async def is_held_by(name: str) -> bool:
            return stored.hash("1").get("pb") == name

        await wait_until_async(lambda: is_held_by("late"), "the first start")
        async with worker(tasks, name="other", lock_ms=LOCK_MS, stalled_interval_ms=100):
            await wait_until_async(lambda: is_held_by("other"), "the second start")
            # Now its renewal comes, and is refused.
            assert await late_worker._fetcher.extend_locks() == 1
            await wait_until_async(lambda: _is(cancelled), "the first run to be stopped")
            go.set()
            assert await handle.result(30) == "by other"
    assert cancelled == ["late"]
    assert stored.event_names().count("stalled") == 1
    job = invariants.assert_sound(stored.raw, tasks.name).jobs["1"]
    assert (job["ats"], job["atm"], job["stc"]) == ("2", "1", "1")


@pytest.mark.requirement("T05")
@pytest.mark.parametrize("state", ["waiting again", "run by another", "ended by another", "retried by another"])
async def test_every_kind_of_end_by_a_former_holder_is_refused(queue: EngineQueue, state: str) -> None:
    await queue.add(attempts=5)
    old = await queue.take_one()
    queue.raw.delete(queue.keys.lock(old.id))
    for _ in range(2):
        await check(queue)
    if state != "waiting again":
        new = await queue.take_one()
        if state == "ended by another":
            await queue.finish(Finish.completed(new, '"new"'))
        elif state == "retried by another":
            await queue.finish(Finish.retry(new, "new", "[]", 60_000))
    before = {key: value for key, value in contents(queue.raw).items() if not key.endswith((":events", ":marker"))}
    for finish in (
        Finish.completed(old, '"old"'), Finish.failed(old, "old", "[]"), Finish.retry(old, "old", "[]", 0),
        Finish.retry(old, "old", "[]", 50), Finish.requeue(old),
    ):  # fmt: skip
        reply = await queue.active.finish_and_take([finish], 0, queue.token())
        assert reply.codes == [-6 if state == "run by another" else -2]
    assert await queue.active.extend_locks([old]) == {old.id}
    after = contents(queue.raw)
    assert {key: after.get(key) for key in before} == before
    assert await queue.active.adopt(old.token, ()) == []


@pytest.mark.requirement("T07")
async def test_an_active_job_without_any_lock_is_found(queue: EngineQueue) -> None:
    """As if its worker had died in the middle of taking it, or as another program may leave it."""
    await queue.add()
    queue.raw.lmove(queue.keys.wait, queue.keys.active, "RIGHT", "LEFT")
    assert [await check(queue) for _ in range(2)] == [[], ["1"]]
    job = await queue.take_one()
    assert (job.attempts_started, job.attempts_made, job.stalled_count) == (1, 0, 1)
    await queue.finish(Finish.completed(job, "1"))
    invariants.assert_sound(queue.raw, queue.keys.queue)


@pytest.mark.requirement("T19")
async def test_ten_workers_and_one_job_at_a_time(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    runs: collections.Counter[str] = collections.Counter()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> str | None:
        runs[job.id] += 1
        await asyncio.sleep(0)
        return job.record.processed_by

    async with contextlib.AsyncExitStack() as workers:
        for _ in range(10):
            await workers.enter_async_context(worker(tasks, concurrency=3))
        by = {await (await step.enqueue()).result(30) for _ in range(30)}
    assert set(runs.values()) == {1}
    assert len(runs) == 30
    assert len(by) > 1, "one worker had them all: nothing is shown"
    kept = invariants.assert_sound(stored.raw, tasks.name)
    assert {job["ats"] for job in kept.jobs.values()} == {"1"}


async def _is(found: object) -> bool:
    return bool(found)
