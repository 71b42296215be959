"""BullMQ's metrics at the ends of jobs: what a batch adds, and that nothing here ever stops an end."""

from __future__ import annotations

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until
from toril.engine.worker import Finish
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions


@pytest.fixture(autouse=True)
def early_in_a_minute(queue: EngineQueue) -> None:
    """Minutes are the clock's: none is to end in the middle of a test."""
    wait_until(lambda: queue.raw.time()[0] % 60 < 50, "the next minute", interval_seconds=0.1)


async def finish(queue: EngineQueue, completed: int, failed: int = 0, minutes: int = 10) -> None:
    """End so many jobs in one call."""
    worker = queue.worker("w", metrics_minutes=minutes)
    await queue.producer.add([NewJob.create("n", {}, JobOptions()) for _ in range(completed + failed)])
    jobs = (await worker.take(completed + failed, queue.token())).jobs
    finishes = [
        Finish.completed(job, "1") if index < completed else Finish.failed(job, "x", "[]")
        for index, job in enumerate(jobs)
    ]
    reply = await worker.finish_and_take(finishes, 0, queue.token())
    assert reply.codes == [0] * len(finishes)


def minutes_pass(queue: EngineQueue, count: int, kind: str = "completed") -> None:
    """As if the last number had been written so many minutes ago."""
    key = f"{queue.keys.base}metrics:{kind}"
    queue.raw.hincrby(key, "prevTS", -60_000 * count)


def data(queue: EngineQueue, kind: str = "completed") -> list[str]:
    return list(queue.raw.lrange(f"{queue.keys.base}metrics:{kind}:data", 0, -1))


def counted(queue: EngineQueue, kind: str = "completed") -> tuple[str | None, str | None]:
    count, before = queue.raw.hmget(f"{queue.keys.base}metrics:{kind}", "count", "prevCount")
    return count, before


async def test_nothing_is_written_unless_asked_for(queue: EngineQueue) -> None:
    await finish(queue, 1, 1, minutes=0)
    assert queue.raw.keys(queue.keys.base + "metrics*") == []


async def test_a_batch_counts_as_its_jobs_one_by_one(queue: EngineQueue) -> None:
    await finish(queue, 3, 2)
    assert (counted(queue), counted(queue, "failed"), data(queue)) == (("3", "0"), ("2", "0"), [])
    minutes_pass(queue, 3)
    await finish(queue, 4)
    # What ended before the batch belongs to the minutes before.
    assert (counted(queue), data(queue)) == (("7", "3"), ["0", "0", "3"])
    minutes_pass(queue, 1)
    await finish(queue, 1)
    assert (counted(queue), data(queue)) == (("8", "7"), ["4", "0", "0", "3"])
    assert data(queue, "failed") == []


async def test_only_so_many_minutes_are_kept(queue: EngineQueue) -> None:
    await finish(queue, 2, minutes=3)
    minutes_pass(queue, 1000)
    await finish(queue, 1, minutes=3)
    assert data(queue) == ["0", "0", "2"]
    minutes_pass(queue, 1)
    await finish(queue, 1, minutes=3)
    assert data(queue) == ["1", "0", "0"]


async def test_nonsense_in_its_place_stops_no_end(queue: EngineQueue) -> None:
    key = queue.keys.base + "metrics:completed"
    queue.raw.hset(key, mapping={"count": "many", "prevTS": "x", "prevCount": "-"})
    await finish(queue, 1, minutes=2)
    assert (counted(queue), data(queue)) == (("1", "0"), ["0", "0"])
    queue.raw.delete(key + ":data")
    queue.raw.set(key + ":data", "no list")
    await finish(queue, 1)
    queue.raw.delete(key)
    queue.raw.set(key, "no hash")
    await finish(queue, 1)
    assert queue.raw.get(key) == "no hash"


async def test_attempts_that_are_tried_again_do_not_count(queue: EngineQueue) -> None:
    worker = queue.worker("w", metrics_minutes=5)
    await queue.add(attempts=2)
    (job,) = (await worker.take(1, queue.token())).jobs
    await worker.finish_and_take([Finish.retry(job, "x", "[]", 0)], 0, queue.token())
    assert queue.raw.keys(queue.keys.base + "metrics*") == []
