"""A worker beside a Redis at `maxmemory`: it goes on with what is there, and with the rest when memory is back."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import pytest

from support.engine import EngineQueue
from support.redis_server import RedisServer
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue, errors
from toril.errors import RedisReason
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate
from toril.worker.scheduler_upkeep import PAUSE_MS

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server whose memory these tests limit."""
    started = RedisServer()
    yield started
    started.remove()


@pytest.fixture
def redis_url(server: RedisServer) -> str:
    with server.client() as client:
        client.flushall()
    return server.url


def ended(stored: EngineQueue, count: int) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        places = stored.places()
        return len(places.get("completed", [])) + len(places.get("failed", [])) == count

    return probe


def is_empty(stored: EngineQueue) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return stored.places() == {}

    return probe


def refused(server: RedisServer, count: int) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return refusals(server) >= count

    return probe


def has_place(stored: EngineQueue, job_id: str, place: str) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return job_id in stored.places().get(place, [])

    return probe


def refusals(server: RedisServer) -> int:
    """How many commands the server has refused for memory."""
    with server.client() as client:
        stats = client.info("errorstats").get("errorstat_OOM", {"count": 0})
    return int(stats["count"])


@pytest.mark.requirement("T37")
async def test_jobs_are_taken_retried_and_finished_when_redis_is_full(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, server: RedisServer
) -> None:
    runs: list[int] = []

    @tasks.task(attempts=2)
    async def step(number: int) -> int:
        runs.append(number)
        if number % 10 == 0 and Job.current().attempt == 1:
            raise ValueError("once more")
        return number

    await tasks.add_bulk([step.draft(number) for number in range(200)])
    with server.full():
        async with worker(tasks, concurrency=10):
            await wait_until_async(ended(stored, 200), "all jobs to end")
            with pytest.raises(errors.RedisUnavailableError, match="is full: `maxmemory`") as refusal:
                await step.enqueue(1)
    assert refusal.value.reason is RedisReason.OUT_OF_MEMORY
    assert sorted(runs) == sorted([*range(200), *range(0, 200, 10)])
    assert set(stored.places()) == {"completed"}


async def test_a_queue_that_meets_its_limit_under_load_loses_and_doubles_nothing(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, server: RedisServer
) -> None:
    acknowledged: list[int] = []
    refusals: list[RedisReason] = []
    runs: collections.Counter[int] = collections.Counter()

    @tasks.task(keep_completed=False, attempts=2)
    async def step(number: int, padding: str) -> None:
        runs[number] += 1
        if number % 10 == 0 and Job.current().attempt == 1:
            raise ValueError("once more")

    async def produce(first: int, count: int) -> None:
        for number in range(first, first + count):
            await wait_until_async(adding(number), f"room for job {number}", timeout_seconds=90)

    def adding(number: int) -> Callable[[], Awaitable[bool]]:
        async def probe() -> bool:
            try:
                await step.enqueue(number, "x" * 20_000)
            except errors.RedisUnavailableError as problem:
                refusals.append(problem.reason)
                return False
            acknowledged.append(number)
            return True

        return probe

    used = int(stored.raw.info("memory")["used_memory"])
    with server.full(used + 2_000_000):
        producing = asyncio.gather(*(produce(1000 * producer, 150) for producer in range(4)))

        async def is_full() -> bool:
            return len(refusals) > 10

        await wait_until_async(is_full, "adds to be refused")
        async with worker(tasks, concurrency=5):
            await producing
            await wait_until_async(is_empty(stored), "all jobs to end", timeout_seconds=90)
    assert set(refusals) == {RedisReason.OUT_OF_MEMORY}
    assert len(acknowledged) == 600
    assert runs == {number: 2 if number % 10 == 0 else 1 for number in acknowledged}


async def test_a_worker_takes_new_jobs_when_memory_is_back(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, server: RedisServer
) -> None:
    @tasks.task
    async def step() -> None: ...

    async with worker(tasks, concurrency=2):
        with server.full(), pytest.raises(errors.RedisUnavailableError):
            await step.enqueue()
        assert stored.places() == {}
        await step.enqueue()
        await wait_until_async(ended(stored, 1), "the job's end")


async def test_what_a_job_stores_is_refused_to_the_job_alone(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, server: RedisServer
) -> None:
    told: list[RedisReason] = []

    @tasks.task
    async def child() -> None: ...

    @tasks.task
    async def careful(*, job: Job = Job.current()) -> str:
        calls = (
            lambda: job.log("row"), lambda: job.progress(1), lambda: job.update_data({}),
            lambda: job.add_child(child.draft()),
        )  # fmt: skip
        for call in calls:
            with pytest.raises(errors.RedisUnavailableError) as refusal:
                await call()
            told.append(refusal.value.reason)
        return "done"

    @tasks.task
    def careful_in_a_thread(*, job: Job = Job.current()) -> str:
        with pytest.raises(errors.RedisUnavailableError) as refusal:
            job.sync.log("row")
        told.append(refusal.value.reason)
        return "done"

    @tasks.task
    async def careless(*, job: Job = Job.current()) -> None:
        await job.log("row")

    @tasks.task
    async def plain() -> None: ...

    await tasks.add_bulk([careful.draft(), careful_in_a_thread.draft(), careless.draft(), plain.draft()])
    with server.full():
        async with worker(tasks, concurrency=1):
            await wait_until_async(ended(stored, 4), "all jobs to end")
    assert told == [RedisReason.OUT_OF_MEMORY] * 5
    assert stored.places() == {"completed": ["1", "2", "4"], "failed": ["3"]}
    assert "is full: `maxmemory` is reached" in stored.hash("3")["failedReason"]
    assert stored.raw.exists(stored.keys.logs("1"), stored.keys.job("1") + ":dependencies") == 0
    assert "progress" not in stored.hash("1")


async def test_a_series_goes_on_when_memory_is_back(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    @tasks.task
    async def step() -> None: ...

    made = await stored.schedulers.upsert("s", Schedule(every_ms=HOUR_MS), JobTemplate.create("step"))
    assert made is not None
    await tasks.add_bulk([step.draft() for _ in range(50)])
    # The stalled check, which would make the next job too, comes later than this test waits.
    with contextlib.ExitStack() as memory:
        memory.enter_context(server.full())
        async with worker(tasks, concurrency=1, stalled_interval_ms=3_600_000):
            began, before = asyncio.get_running_loop().time(), refusals(server)
            await wait_until_async(ended(stored, 51), "the jobs that are there to end")
            await wait_until_async(refused(server, before + 2), "the next job to be refused twice", timeout_seconds=90)
            assert stored.raw.zscore(stored.keys.repeat, "s") == made.slot_ms
            assert set(stored.places()) == {"completed"}
            # Not at every turn of the worker's loop, which turns for each job.
            assert refusals(server) - before <= 2 + (asyncio.get_running_loop().time() - began) // (PAUSE_MS / 1000)
            memory.close()
            await wait_until_async(
                has_place(stored, f"repeat:s:{made.slot_ms + HOUR_MS}", "delayed"), "the next job", timeout_seconds=90
            )
    assert stored.raw.hget(f"{stored.keys.repeat}:s", "ic") == "2"
    lines = [record.getMessage() for record in caplog.records if record.name == "toril.worker"]
    assert len([line for line in lines if "make no jobs until Redis has memory again" in line]) == 1
    assert len([line for line in lines if "Redis fails" in line]) == 0
