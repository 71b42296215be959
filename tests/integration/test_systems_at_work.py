"""What the five systems ask of running workers: jobs at a time, jobs in a time, what is kept, who hears."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support.engine import EngineQueue, open_queue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue, QueueEvent, errors, keep
from toril.engine.worker import Finish, Limiter
from toril.jobs.job import JobState

HOUR_MS = 3_600_000


class Gate:
    """Holds jobs until a test opens it, and counts how many are inside."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.open = asyncio.Event()

    async def pass_through(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.open.wait()
        self.inside -= 1


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def count(stored: EngineQueue, state: str, number: int) -> None:
    async def is_so() -> bool:
        return (await stored.inspector.counts())[state] == number

    await wait_until_async(is_so, f"{number} {state} jobs")


@pytest.mark.requirement("M-16", "B-09", "I-09", "Z-05")
async def test_a_worker_runs_five_jobs_at_a_time(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, gate: Gate
) -> None:
    @tasks.task
    async def resize(width: int) -> dict[str, Any]:
        await gate.pass_through()
        return {"success": True, "width": width}

    async with worker(tasks, concurrency=5):
        handles = [await resize.enqueue(width) for width in range(12)]
        await count(stored, "active", 5)
        assert (gate.inside, (await stored.inspector.counts())["waiting"]) == (5, 7)
        gate.open.set()
        assert [await handle.result(60) for handle in handles] == [
            {"success": True, "width": width} for width in range(12)
        ]
    assert gate.most == 5
    # A result is an object, and stays readable.
    assert [(await handle.job()).return_value for handle in handles[:1]] == [{"success": True, "width": 0}]


@pytest.mark.requirement("I-09")
async def test_what_a_processor_raises_leads_to_another_attempt_and_its_progress_stays(
    tasks: Queue, worker: StartWorker
) -> None:
    @tasks.task(attempts=2)
    async def report(*, job: Job = Job.current()) -> int:
        await job.progress(100)
        if job.attempt == 1:
            raise ValueError("no mail server")
        return job.attempt

    async with worker(tasks):
        handle = await report.enqueue()
        assert await handle.result(60) == 2
    stored = await handle.job()
    assert (stored.progress, stored.attempts_made) == (100, 2)


@pytest.mark.parametrize(
    ("concurrency", "per_minute"),
    [
        pytest.param(3, 10, marks=pytest.mark.requirement("C-06"), id="transcript-generation"),
        pytest.param(5, 20, marks=pytest.mark.requirement("C-07"), id="social-posting"),
    ],
)
async def test_so_many_at_a_time_and_so_many_a_minute(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, gate: Gate, concurrency: int, per_minute: int
) -> None:
    @tasks.task
    async def work() -> None:
        await gate.pass_through()

    async with worker(tasks, concurrency=concurrency, limiter=Limiter(per_minute, 60_000), max_rate_limit_wait_ms=50):
        for _ in range(per_minute + 4):
            await work.enqueue()
        await count(stored, "active", concurrency)
        gate.open.set()
        await count(stored, "completed", per_minute)
        counts = await stored.inspector.counts()
        assert (counts["active"], counts["waiting"]) == (0, 4)
        left_ms = stored.raw.pttl(stored.keys.base + "limiter")
        assert 0 < left_ms <= 60_000
        # The minute is over.
        stored.raw.delete(stored.keys.base + "limiter")
        await count(stored, "completed", per_minute + 4)
    assert gate.most == concurrency


@pytest.mark.requirement("Z-36")
async def test_memory_does_not_grow_with_the_number_of_finished_jobs(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    stored.raw.hset(stored.keys.meta, "opts.maxLenEvents", 0)

    @tasks.task(keep_completed=20, keep_failed=keep(count=5, age=7 * 86_400))
    async def work(text: str) -> str:
        if text.startswith("bad"):
            raise ValueError(text)
        return text

    async def run(number: int) -> int:
        handles = [await work.enqueue(f"{'bad' if at % 4 == 0 else 'good'} {at:05}") for at in range(number)]
        for handle in handles:
            await stored_end(stored, handle.id)
        names = [name for name in stored.raw.keys(stored.keys.base + "*") if not name.endswith(("events", "limiter"))]
        return sum(stored.raw.memory_usage(name, samples=0) or 0 for name in names)

    async with worker(tasks, concurrency=10):
        first = await run(100)
        later = [await run(100) for _ in range(3)]
    counts = await stored.inspector.counts()
    assert (counts["completed"], counts["failed"]) == (20, 5)
    # A job takes some hundred bytes: what is kept of 100 more would show.
    assert max(later) < first + 2000


async def stored_end(stored: EngineQueue, job_id: str) -> None:
    """Wait until the job is neither waiting nor running; retention may have removed it."""

    async def is_over() -> bool:
        return await stored.inspector.state(job_id) in (JobState.COMPLETED, JobState.FAILED, JobState.UNKNOWN)

    await wait_until_async(is_over, f"the end of job {job_id}")


@pytest.mark.requirement("Z-36", "C-26")
async def test_an_end_removes_what_is_older_than_its_age_allows(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task(keep_completed=keep(age=24 * 3600), keep_failed=keep(age=7 * 24 * 3600))
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError("no")

    async with worker(tasks):
        for fails, key, hours in ((False, stored.keys.completed, (23, 25)), (True, stored.keys.failed, (167, 169))):
            for age in hours:
                handle = await work.enqueue(fails)
                await stored_end(stored, handle.id)
                now_ms = int(stored.raw.time()[0]) * 1000
                stored.raw.zadd(key, {handle.id: now_ms - age * HOUR_MS})
            last = await work.enqueue(fails)
            await stored_end(stored, last.id)
    assert stored.places() == {"completed": ["1", "3"], "failed": ["4", "6"]}


@pytest.mark.requirement("Z-46")
async def test_progress_is_seen_by_everyone_who_listens(tasks: Queue, worker: StartWorker) -> None:
    @tasks.task
    async def work(*, job: Job = Job.current()) -> None:
        for percent in (25, 50, 75):
            await job.progress(percent)

    async def listen(ready: asyncio.Event) -> list[Any]:
        heard = []
        async with tasks.events(after="0-0") as events:
            ready.set()
            async for event in events:
                if event.name == "progress":
                    heard.append(event.fields["data"])
                if event.name == "completed":
                    return heard
        raise AssertionError("the events ended")

    ready = [asyncio.Event() for _ in range(3)]
    listeners = [asyncio.create_task(listen(event)) for event in ready]
    for event in ready:
        await asyncio.wait_for(event.wait(), 30)
    async with worker(tasks):
        await (await work.enqueue()).result(60)
    assert await asyncio.wait_for(asyncio.gather(*listeners), 60) == [[25, 50, 75]] * 3


@pytest.mark.requirement("C-27")
async def test_counts_by_state_of_all_queues(redis_url: str, queue_name: str) -> None:
    """Each of several queues has jobs in states of its own; asking all of them mixes nothing up."""
    wanted: dict[str, dict[str, int]] = {
        f"{queue_name}-videos": {"waiting": 2, "delayed": 1},
        f"{queue_name}-mails": {"completed": 1, "failed": 1, "active": 1},
        f"{queue_name}-posts": {"prioritized": 3},
        f"{queue_name}-empty": {},
    }
    for name, counts in wanted.items():
        async with open_queue(redis_url, name) as stored:
            await fill(stored, counts)
    queues = [Queue(name, url=redis_url) for name in wanted]
    try:
        found = {queue.name: await queue.counts() for queue in queues}
    finally:
        for queue in queues:
            await queue.close()
    assert {name: {state: number for state, number in counts.items() if number} for name, counts in found.items()} == (
        wanted
    )


async def fill(stored: EngineQueue, counts: dict[str, int]) -> None:
    given: dict[str, dict[str, Any]] = {"prioritized": {"priority": 1}, "delayed": {"delay": HOUR_MS}}
    for state, number in counts.items():
        for _ in range(number):
            await stored.add(**given.get(state, {}))
            if state in ("completed", "failed", "active"):
                job = await stored.take_one()
                if state == "completed":
                    await stored.finish(Finish.completed(job, "1"))
                elif state == "failed":
                    await stored.finish(Finish.failed(job, "no", "[]"))


@pytest.mark.requirement("C-28")
async def test_a_listener_hears_progress_and_ends_and_the_error_that_ends_it(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def work(fails: bool, *, job: Job = Job.current()) -> str:
        await job.progress({"done": not fails})
        if fails:
            raise ValueError("no disk")
        return "made"

    async with worker(tasks):
        await (await work.enqueue(False)).result(60)
        with pytest.raises(errors.JobFailedError):
            await (await work.enqueue(True)).result(60)
    heard: list[tuple[str, Any]] = []
    async with tasks.events(after="0-0") as events:
        with pytest.raises(errors.WrongKeyTypeError, match="events"):
            async for event in events:
                heard += told(event)
                if event.name == "failed":
                    stored.raw.set(stored.keys.events, "no stream any more")
    assert heard == [
        ("progress", {"done": True}), ("completed", "made"), ("progress", {"done": False}), ("failed", "no disk"),
    ]  # fmt: skip


def told(event: QueueEvent) -> list[tuple[str, Any]]:
    field = {"progress": "data", "completed": "returnvalue", "failed": "failedReason"}.get(event.name)
    return [(event.name, event.fields[field])] if field else []


@pytest.mark.requirement("I-13")
async def test_a_job_each_night_at_two(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    """The armed slot is a night's two o'clock; when it is due the job runs, and the next night's is armed."""
    nights: list[str] = []

    @tasks.task
    async def cleanup(*, job: Job = Job.current()) -> None:
        nights.append(job.id)

    await tasks.schedulers.upsert("nightly", cron="0 2 * * *", tz="Europe/Berlin", draft=cleanup.draft())
    ((first_id, first_ms),) = stored.raw.zrange(stored.keys.repeat, 0, -1, withscores=True)
    assert first_id == "nightly"
    first = datetime.fromtimestamp(first_ms / 1000, ZoneInfo("Europe/Berlin"))
    assert (first.hour, first.minute, first.second) == (2, 0, 0)
    assert timedelta(0) < first - datetime.now(UTC) <= timedelta(hours=25)
    async with worker(tasks):
        # The night has come: the armed run is let go now.
        job_id = f"repeat:nightly:{int(first_ms)}"
        await tasks.handle(job_id).promote()
        await stored_end(stored, job_id)

        async def is_next_armed() -> bool:
            return bool(stored.raw.zscore(stored.keys.repeat, "nightly") > first_ms)

        await wait_until_async(is_next_armed, "the next night's slot")
    assert nights == [job_id]
    second = datetime.fromtimestamp(stored.raw.zscore(stored.keys.repeat, "nightly") / 1000, ZoneInfo("Europe/Berlin"))
    assert second.date() - first.date() == timedelta(days=1)
    assert (second.hour, second.minute) == (2, 0)
