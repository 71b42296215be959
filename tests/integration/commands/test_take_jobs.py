"""Taking: order, locks, promotion, limits."""

from __future__ import annotations

import asyncio

import pytest

from support.contents import contents
from support.engine import EngineQueue, open_queue
from support.refusals import Server
from toril import clock, errors
from toril.engine.worker import Limiter


async def test_a_taken_job_is_active_locked_and_told(queue: EngineQueue) -> None:
    await queue.add("save", {"page": 1})
    taken = await queue.active.take(5, "pod:1")
    (job,) = taken.jobs
    assert (job.id, job.name, job.data, job.token) == ("1", "save", {"page": 1}, "pod:1")
    assert (job.attempts_started, job.attempts_made, job.processed_by) == (1, 0, "worker-1")
    assert queue.places() == {"active": ["1"]}
    assert queue.raw.get(queue.keys.lock("1")) == "pod:1"
    assert 20_000 < queue.raw.pttl(queue.keys.lock("1")) <= 30_000
    stored = queue.hash("1")
    assert (stored["ats"], stored["pb"], int(stored["processedOn"])) == ("1", "worker-1", job.processed_on_ms)
    assert queue.events()[-1] == {"event": "active", "jobId": "1", "prev": "waiting"}
    # The wake-up goes on to the next idle worker.
    assert queue.raw.zscore(queue.keys.marker, "0") == 0


@pytest.mark.parametrize("change", ["nothing", "one more", "one for another", "all but one"])
async def test_what_is_stored_comes_whole_whatever_it_is(queue: EngineQueue, change: str) -> None:
    await queue.add("save", {"page": 1})
    key = queue.keys.job("1")
    if change == "one more":
        queue.raw.hset(key, "ats", "2")
    elif change == "one for another":
        queue.raw.hdel(key, "priority")
        queue.raw.hset(key, "rjk", "daily")
    elif change == "all but one":
        queue.raw.hdel(key, "timestamp")
    stored = queue.hash("1")
    (job,) = await queue.take(1)
    now = {"ats": str(int(stored.get("ats", "0")) + 1), "pb": "worker-1", "processedOn": str(job.processed_on_ms)}
    assert {name: job.text(name) for name in queue.hash("1")} == {**stored, **now} == queue.hash("1")
    assert job.attempts_started == int(now["ats"])
    assert job.scheduler_id == stored.get("rjk")


async def test_a_worker_without_a_name_leaves_none(queue: EngineQueue) -> None:
    await queue.add()
    (job,) = (await queue.worker("").take(1, "t")).jobs
    assert job.processed_by is None
    assert "pb" not in queue.hash("1")


async def test_a_worker_that_may_not_run_hlen_reports_it(queue: EngineQueue, redis_url: str, queue_name: str) -> None:
    await queue.add(jobId="a")
    before = contents(queue.raw)
    limited = Server(redis_url, queue_name)
    limited.make_user("~*", "+@all", "-hlen")
    try:
        with pytest.raises(errors.RedisUnavailableError, match=f"no right to HLEN {queue.keys.job('a')}") as refusal:
            limited.limited.run(queue.active.finishing_and_taking([], 1, "t"))
        assert refusal.value.reason is errors.RedisReason.AUTH_FAILED
    finally:
        limited.close()
    assert contents(queue.raw) == before


async def test_an_empty_queue_gives_nothing(queue: EngineQueue) -> None:
    taken = await queue.active.take(5, "t")
    assert (taken.jobs, taken.rate_limit_ms, taken.next_due_ms) == ([], 0, 0)


async def test_the_next_due_time_is_told_when_nothing_is_ready(queue: EngineQueue) -> None:
    now_ms = clock.now_ms()
    await queue.add(delay=60_000, timestamp=now_ms)
    taken = await queue.active.take(1, "t")
    assert (taken.jobs, taken.next_due_ms) == ([], now_ms + 60_000)


async def test_a_due_time_beyond_all_numbers_is_told_as_far_away(queue: EngineQueue) -> None:
    """Redis's integers would wrap it to one that is long over, and a worker would look again and again."""
    queue.raw.zadd(queue.keys.delayed, {await queue.add(delay=1000): 1e20 * 4096})
    assert (await queue.active.take(1, "t")).next_due_ms > clock.now_ms() + 60_000


@pytest.mark.requirement("T22")
async def test_due_jobs_are_promoted_behind_what_waits(queue: EngineQueue) -> None:
    await queue.add(jobId="late", delay=1, timestamp=1000)
    await queue.add(jobId="early", delay=1, timestamp=500)
    await queue.add(jobId="important", delay=1, timestamp=1000, priority=1)
    await queue.add(jobId="waiting")
    jobs = await queue.take(10)
    assert [job.id for job in jobs] == ["waiting", "early", "late", "important"]
    assert queue.hash("early")["delay"] == "0"
    assert {"event": "waiting", "jobId": "early", "prev": "delayed"} in queue.events()


async def test_due_jobs_are_promoted_even_while_paused(queue: EngineQueue) -> None:
    await queue.add(delay=1, timestamp=1000)
    await queue.producer.pause()
    assert await queue.take(1) == []
    assert queue.places() == {"wait": ["1"]}


async def test_with_bullmq_5_they_are_promoted_to_where_paused_jobs_wait(redis_url: str, queue_name: str) -> None:
    async with open_queue(redis_url, queue_name, layout="5") as queue:
        await queue.add(delay=1, timestamp=1000)
        await queue.producer.pause()
        assert await queue.take(1) == []
        assert queue.places() == {"paused": ["1"]}


async def test_the_queues_concurrency_bounds_what_is_active(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.meta, "concurrency", 3)
    for _ in range(5):
        await queue.add()
    assert len(await queue.take(2)) == 2
    assert len(await queue.take(2)) == 1
    assert await queue.take(2) == []


async def test_the_workers_limit_bounds_a_window(queue: EngineQueue) -> None:
    worker = queue.worker("w", limiter=Limiter(max=3, duration_ms=60_000))
    for _ in range(5):
        await queue.add()
    assert len((await worker.take(10, "t:1")).jobs) == 3
    limited = await worker.take(10, "t:2")
    assert limited.jobs == []
    assert 30_000 < limited.rate_limit_ms <= 60_000
    # Most of its time has gone by.
    queue.raw.pexpire(queue.keys.limiter, 100)
    limited = await worker.take(10, "t:3")
    await asyncio.sleep(limited.rate_limit_ms / 1000 + 0.01)
    assert len([*limited.jobs, *(await worker.take(10, "t:4")).jobs]) == 2


async def test_the_queues_maximum_goes_before_the_workers(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.meta, mapping={"max": 1, "duration": 60_000})
    worker = queue.worker("w", limiter=Limiter(max=10, duration_ms=500))
    await queue.add()
    await queue.add()
    assert len((await worker.take(10, "t:1")).jobs) == 1
    # BullMQ's rule: the maximum is the queue's, the duration the worker's.
    assert 0 < queue.raw.pttl(queue.keys.limiter) <= 500


async def test_a_maximum_without_a_duration_breaks_nothing(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.meta, "max", 1)
    await queue.add()
    assert len(await queue.take(1)) == 1


async def test_an_id_without_a_job_is_dropped(queue: EngineQueue) -> None:
    await queue.add(jobId="real")
    queue.raw.rpush(queue.keys.wait, "orphan", "0:123")
    queue.raw.set(queue.keys.job("odd"), "not a hash")
    queue.raw.rpush(queue.keys.wait, "odd")
    assert [job.id for job in await queue.take(10)] == ["real"]
    assert queue.places() == {"active": ["real"]}
    assert queue.raw.exists(queue.keys.job("orphan")) == 0


async def test_the_priority_counter_starts_anew_when_none_is_left(queue: EngineQueue) -> None:
    await queue.add(priority=1)
    await queue.take(1)
    await queue.take(1)
    assert queue.raw.exists(queue.keys.pc) == 0


@pytest.mark.requirement("T19")
async def test_many_takers_and_one_job(queue: EngineQueue) -> None:
    await queue.add()
    taken = await asyncio.gather(*(queue.active.take(1, queue.token()) for _ in range(10)))
    assert sum(len(found.jobs) for found in taken) == 1


@pytest.mark.requirement("T36")
async def test_a_server_that_forgot_the_scripts_is_no_error(queue: EngineQueue) -> None:
    for _ in range(5):
        queue.raw.script_flush()
        await queue.add()
        queue.raw.script_flush()
        assert len(await queue.take(1)) == 1


async def test_a_delayed_id_without_a_job_is_dropped_and_leaves_no_phantom(queue: EngineQueue) -> None:
    queue.raw.zadd(queue.keys.delayed, {"gone": 1000 * 4096})
    await queue.add(jobId="here", delay=1, timestamp=2000)
    assert [job.id for job in await queue.take(5)] == ["here"]
    assert queue.raw.exists(queue.keys.job("gone")) == 0
    assert queue.places() == {"active": ["here"]}
    assert all(fields.get("jobId") != "gone" for fields in queue.events())


async def test_a_dropped_id_does_not_put_a_worker_to_sleep(queue: EngineQueue) -> None:
    await queue.add(jobId="gone")
    await queue.add(jobId="here")
    queue.raw.delete(queue.keys.job("gone"), queue.keys.marker)
    assert await queue.take(1) == []
    assert queue.raw.zscore(queue.keys.marker, "0") == 0
    assert [job.id for job in await queue.take(1)] == ["here"]
