"""The chores of a queue, done by several processes at once, by workers, or by nobody: each thing happens once."""

from __future__ import annotations

import collections
import itertools
from pathlib import Path
from typing import Any

import pytest

from support import invariants, maintainer, soak
from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue, clock
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

EVERY_MS = 200
SCHEDULERS = 10


async def wait_for_places(queue: EngineQueue, **counts: int) -> None:
    async def probe() -> bool:
        places = queue.places()
        return all(len(places.get(name, [])) == count for name, count in counts.items())

    await wait_until_async(probe, f"{counts}", timeout_seconds=60)


async def leave_work(queue: EngineQueue, delayed: int) -> None:
    """Delayed jobs, two a moment, added in no order, one of three with a priority; and 20 whose worker is gone."""
    for number in range(20):
        await queue.add("step", {}, jobId=f"held-{number}")
    for job in await queue.take(20):
        queue.raw.delete(queue.keys.lock(job.id))
    start_ms = clock.now_ms()
    jobs = []
    for number in range(delayed):
        due = (number * 7919 % delayed) // 2 * 24
        options: dict[str, Any] = {"delay": 1000 + due, "timestamp": start_ms, "priority": 1 if due % 3 == 0 else 0}
        options["jobId"] = f"due-{due:04}-{number}"
        jobs.append(NewJob.create("step", {}, JobOptions.from_bullmq(options)))
    # In one call: all are there before the first is due.
    await queue.producer.add(jobs)


@pytest.mark.requirement("T01", "T22", "T23")
@pytest.mark.parametrize("slots", soak.lengths(6, 100))
async def test_three_processes_promote_recover_and_advance_at_once(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, redis_url: str, tmp_path: Path, slots: int
) -> None:
    """Beside other work, ten schedulers with so many slots each: none is left out and none doubled."""
    delayed = 200
    total = delayed + 20 + SCHEDULERS * slots
    stored.raw.hset(stored.keys.meta, "opts.maxLenEvents", 10_000_000)
    with maintainer.running(redis_url, tasks.name, tmp_path) as maintainers:
        await leave_work(stored, delayed)
        schedule, template = Schedule(every_ms=EVERY_MS, limit=slots), JobTemplate(name="step")
        for number in range(SCHEDULERS):
            await stored.schedulers.upsert(f"s{number}", schedule, template)
        await wait_for_runnable(stored, total)
        promoted = [sum(each) for each in maintainers.done("promoted")]
        made = [sum(len(job_ids) for job_ids in each) for each in maintainers.done("advanced")]
    for shares in (promoted, made):
        assert sum(count > 0 for count in shares) > 1, "one process did all: nothing is shown"
    recovered = [event["jobId"] for event in stored.events() if event["event"] == "stalled"]
    assert sorted(recovered) == sorted(f"held-{number}" for number in range(20))
    assert {stored.hash(job_id)["stc"] for job_id in recovered} == {"1"}
    told = [event["jobId"] for event in stored.events() if event.get("prev") == "delayed"]
    dues = [job_id[:8] for job_id in told if job_id.startswith("due-")]
    assert len(told) == len(set(told))
    assert len(dues) == delayed
    assert dues == sorted(dues), "by due time"
    added = collections.Counter(event["jobId"] for event in stored.events() if event["event"] == "added")
    assert set(added.values()) == {1}
    for number in range(SCHEDULERS):
        times = sorted(int(job_id.rpartition(":")[2]) for job_id in added if f":s{number}:" in job_id)
        assert [later - earlier for earlier, later in itertools.pairwise(times)] == [EVERY_MS] * (slots - 1)
    await run_all(tasks, worker, stored, total)


async def wait_for_runnable(queue: EngineQueue, count: int) -> None:
    async def probe() -> bool:
        places = queue.places()
        return set(places) == {"wait", "prioritized"} and sum(map(len, places.values())) == count

    await wait_until_async(probe, f"{count} runnable jobs", timeout_seconds=60)


async def run_all(tasks: Queue, worker: StartWorker, stored: EngineQueue, count: int) -> None:
    """Whatever happened before: each job is now run once."""
    runs: collections.Counter[str] = collections.Counter()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        runs[job.id] += 1

    async with worker(tasks, concurrency=20):
        await wait_for_places(stored, completed=count)
    assert len(runs) == sum(runs.values()) == count
    invariants.assert_sound(stored.raw, tasks.name)


async def test_who_only_adds_needs_none_of_it(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    """A worker that would look by itself once an hour wakes for whatever is due."""

    @tasks.task
    async def step(*, job: Job = Job.current()) -> str:
        return job.id

    async with worker(tasks, idle_poll_seconds=3600, stalled_interval_ms=3_600_000):
        assert await (await step.enqueue()).result(30) == "1"
        for delay in (150, 50, 100, 100):
            await stored.add("step", {}, delay=delay)
        await wait_for_places(stored, completed=5)
    invariants.assert_sound(stored.raw, tasks.name)
