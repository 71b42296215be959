"""Limits of the queue: jobs at a time, jobs in a time; and what an invalid value in their place does."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from toril.engine.limits import HELD_BACK, LimitedQueue, QueueLimits
from toril.engine.worker import Finish, Limiter


@pytest.fixture
def limited(queue: EngineQueue) -> LimitedQueue:
    return LimitedQueue(queue.connection, queue.keys)


async def test_limits_are_set_read_and_removed(queue: EngineQueue, limited: LimitedQueue) -> None:
    assert await limited.read() == QueueLimits()
    await limited.set(concurrency=3, max=5, duration=60_000)
    assert await limited.read() == QueueLimits(3, 5, 60_000)
    assert (await limited.read()).rate == Limiter(5, 60_000)
    await limited.set(concurrency=None, max=None, duration=None)
    assert await limited.read() == QueueLimits()
    assert queue.raw.hkeys(queue.keys.meta) == ["opts.maxLenEvents"]


async def test_a_raised_limit_wakes_those_it_kept_idle(queue: EngineQueue, limited: LimitedQueue) -> None:
    await limited.set(concurrency=1)
    for _ in range(3):
        await queue.add()
    assert len(await queue.take(3)) == 1
    queue.raw.delete(queue.keys.marker)
    await limited.set(concurrency=1)
    assert not queue.raw.exists(queue.keys.marker)
    await limited.set(concurrency=2)
    assert queue.raw.zscore(queue.keys.marker, "0") == 0


async def test_a_limit_changed_while_paused_wakes_nobody(queue: EngineQueue, limited: LimitedQueue) -> None:
    await queue.add()
    await queue.producer.pause()
    await limited.set(concurrency=None)
    assert not queue.raw.exists(queue.keys.marker)


@pytest.mark.parametrize("options", [{}, {"priority": 3}], ids=["waiting", "prioritized"])
async def test_a_finish_that_takes_nothing_wakes_those_the_limit_kept_idle(
    queue: EngineQueue, limited: LimitedQueue, options: dict[str, Any]
) -> None:
    """BullMQ leaves them to their next poll."""
    await limited.set(concurrency=1)
    await queue.add(**options)
    await queue.add(**options)
    job = await queue.take_one()
    queue.raw.delete(queue.keys.marker)
    await queue.finish(Finish.completed(job, "1"))
    assert queue.raw.zscore(queue.keys.marker, "0") == 0
    last = await queue.take_one()
    queue.raw.delete(queue.keys.marker)
    await queue.finish(Finish.completed(last, "1"))
    assert not queue.raw.exists(queue.keys.marker)


async def test_held_back_by_hand_only_bites_where_a_maximum_applies(queue: EngineQueue, limited: LimitedQueue) -> None:
    for _ in range(3):
        await queue.add()
    await limited.hold_back(60_000)
    assert queue.raw.get(queue.keys.limiter) == str(HELD_BACK) == "9007199254740991"
    assert await limited.rate_limited_ms() == 0
    assert 0 < await limited.rate_limited_ms(worker_max=10) <= 60_000
    held = await queue.worker("w", limiter=Limiter(10, 1000)).take(1, "t:1")
    assert (held.jobs, 0 < held.rate_limit_ms <= 60_000) == ([], True)
    assert len(await queue.take(1)) == 1
    await limited.set(max=10, duration=1000)
    assert await queue.take(1) == []
    assert 0 < await limited.rate_limited_ms() <= 60_000
    assert await limited.let_go()
    assert not await limited.let_go()
    assert len(await queue.take(1)) == 1


async def test_a_window_ends_by_itself(queue: EngineQueue, limited: LimitedQueue) -> None:
    await limited.set(max=2, duration=60_000)
    for _ in range(4):
        await queue.add()
    assert len(await queue.take(4)) == 2
    assert await queue.take(4) == []
    assert 0 < queue.raw.pttl(queue.keys.limiter) <= 60_000
    # Most of its time has gone by.
    queue.raw.pexpire(queue.keys.limiter, 40)

    async def take() -> bool:
        return len(await queue.take(4)) == 2

    await wait_until_async(take, "the next window", interval_seconds=0.005)


async def test_of_a_batch_only_what_was_run_counts_against_the_limit(queue: EngineQueue, limited: LimitedQueue) -> None:
    """A job that fails without being run, and an id without a job, use nothing up."""
    await limited.set(max=3, duration=60_000)
    for job_id in ("gone", "doomed", "a", "b", "c"):
        await queue.add(jobId=job_id)
    queue.raw.delete(queue.keys.job("gone"))
    queue.raw.hset(queue.keys.job("doomed"), "defa", "no")
    assert [job.id for job in await queue.take(3)] == ["doomed", "a"]
    assert queue.raw.get(queue.keys.limiter) == "1"
    assert [job.id for job in await queue.take(3)] == ["b", "c"]
    assert await queue.take(3) == []


NONSENSE = ["x", "", "nan", "1e400", "-inf", "0", "-3", "2.5", "null"]


@pytest.mark.parametrize("value", NONSENSE)
async def test_an_invalid_value_as_a_rate_limit_breaks_no_take(
    queue: EngineQueue, limited: LimitedQueue, value: str
) -> None:
    for field in ("max", "duration"):
        queue.raw.delete(queue.keys.limiter)
        queue.raw.hset(queue.keys.meta, mapping={"max": 1, "duration": 60_000, field: value})
        await queue.add()
        (job,) = await queue.take(3)
        await queue.finish(Finish.completed(job, "1"))
        assert (field in (await limited.read()).invalid) is (value != "2.5")


@pytest.mark.parametrize("value", ["x", "", "nan", "1e400", "2.5", "null"])
async def test_an_invalid_value_as_a_concurrency_breaks_nothing(
    queue: EngineQueue, limited: LimitedQueue, value: str
) -> None:
    queue.raw.hset(queue.keys.meta, "concurrency", value)
    for _ in range(4):
        await queue.add()
    jobs = await queue.take(2)
    assert len(jobs) == 2
    assert len(await queue.finish(Finish.completed(jobs[0], "1"), Finish.requeue(jobs[1]), take=1)) == 1
    await queue.producer.pause()
    await queue.producer.resume()
    assert (await limited.read()).invalid == (() if value == "2.5" else ("concurrency",))


@pytest.mark.parametrize("value", ["x", "1.5", "99999999999999999999999", "2.0", "1e0", " 1", "0x1"])
async def test_an_invalid_value_as_the_limiter_breaks_no_take(queue: EngineQueue, value: str) -> None:
    queue.raw.set(queue.keys.limiter, value)
    await queue.add()
    assert len((await queue.worker("w", limiter=Limiter(5, 1000)).take(1, "t:1")).jobs) == 1


async def test_a_limiter_that_never_ends_holds_nobody_back_for_ever(queue: EngineQueue) -> None:
    queue.raw.set(queue.keys.limiter, 5)
    await queue.add()
    assert len((await queue.worker("w", limiter=Limiter(5, 1000)).take(1, "t:1")).jobs) == 1
    assert 0 < queue.raw.pttl(queue.keys.limiter) <= 1000
