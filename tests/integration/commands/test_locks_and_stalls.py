"""Keeping locks, taking them back, finding what was taken unheard, and giving back what a dead worker held."""

from __future__ import annotations

import asyncio

import pytest

from support.engine import EngineQueue, open_queue
from toril import errors
from toril.engine.maintenance import recover_stalled
from toril.engine.redis.connection import AsyncConnection
from toril.engine.worker import ActiveJobs, Finish


async def check(queue: EngineQueue, max_stalled_count: int = 1) -> list[str]:
    """One stalled check, whatever the interval."""
    queue.raw.delete(queue.keys.stalled_check)
    return await recover_stalled.run_once(queue.connection, queue.keys, max_stalled_count=max_stalled_count)


async def test_renewal_sets_the_length_anew_and_proves_life(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    queue.raw.pexpire(queue.keys.lock("1"), 10_000)
    await check(queue)
    assert queue.raw.smembers(queue.keys.stalled) == {"1"}
    assert await queue.active.extend_locks([job]) == set()
    assert queue.raw.pttl(queue.keys.lock("1")) > 20_000
    assert queue.raw.smembers(queue.keys.stalled) == set()


async def test_anothers_lock_is_lost(queue: EngineQueue) -> None:
    for _ in range(2):
        await queue.add()
    jobs = await queue.take(2)
    queue.raw.set(queue.keys.lock("1"), "other")
    assert await queue.active.extend_locks(jobs) == {"1"}


@pytest.mark.requirement("T06")
async def test_a_lock_that_ran_out_is_taken_back_while_nobody_else_has_the_job(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    queue.raw.delete(queue.keys.lock("1"))
    assert await queue.active.extend_locks([job]) == set()
    assert queue.raw.get(queue.keys.lock("1")) == job.token
    assert (await queue.active.finish_and_take([Finish.completed(job, "1")], 0, "t")).codes == [0]


async def test_it_is_not_taken_back_when_the_job_went_on(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    queue.raw.delete(queue.keys.lock("1"))
    await check(queue)
    await check(queue)
    assert queue.places() == {"wait": ["1"]}
    assert await queue.active.extend_locks([job]) == {"1"}
    again = await queue.take_one()
    queue.raw.delete(queue.keys.lock("1"))
    assert await queue.active.extend_locks([job]) == {"1"}
    assert await queue.active.extend_locks([again]) == set()


async def test_no_jobs_need_no_call(queue: EngineQueue) -> None:
    await queue.connection.close()
    assert await queue.active.extend_locks([]) == set()


@pytest.mark.requirement("T09")
async def test_jobs_taken_unheard_are_found_by_their_token(queue: EngineQueue) -> None:
    for _ in range(3):
        await queue.add()
    await queue.active.take(1, "other-pod:1")
    await queue.active.take(1, "my-pod:1")
    await queue.active.take(1, "my-pod:2")
    found = await queue.active.adopt("my-pod:", known_ids=["3"])
    assert [(job.id, job.token, job.attempts_started) for job in found] == [("2", "my-pod:1", 1)]


@pytest.mark.requirement("T01", "T07")
async def test_a_dead_workers_job_is_given_back_at_the_second_check(queue: EngineQueue) -> None:
    for _ in range(2):
        await queue.add()
    await queue.take_one()
    queue.raw.delete(queue.keys.lock("1"))
    assert await check(queue) == []
    assert await check(queue) == ["1"]
    assert queue.places() == {"wait": ["1", "2"]}
    assert queue.hash("1")["stc"] == "1"
    assert queue.events()[-2:] == [
        {"event": "waiting", "jobId": "1", "prev": "active"}, {"event": "stalled", "jobId": "1"},
    ]  # fmt: skip
    job = await queue.take_one()
    assert (job.stalled_count, job.attempts_made, job.attempts_started) == (1, 0, 2)


async def test_a_job_that_stalls_too_often_is_marked_to_fail(queue: EngineQueue) -> None:
    await queue.add()
    for _ in range(2):
        await queue.take_one()
        queue.raw.delete(queue.keys.lock("1"))
        await check(queue)
        await check(queue)
    assert (await queue.take_one()).deferred_failure == "job stalled more than allowable limit"


async def test_a_schedulers_job_is_never_marked(queue: EngineQueue) -> None:
    await queue.add(jobId="x")
    queue.raw.hset(queue.keys.job("x"), "rjk", "nightly")
    queue.raw.zadd(queue.keys.repeat, {"nightly": 1})
    for _ in range(3):
        await queue.take_one()
        queue.raw.delete(queue.keys.lock("x"))
        await check(queue)
        await check(queue)
    assert (await queue.take_one()).deferred_failure is None


async def test_two_checkers_make_one_check_an_interval(queue: EngineQueue) -> None:
    await queue.add()
    await queue.take_one()
    queue.raw.delete(queue.keys.lock("1"))
    rounds = [await asyncio.gather(*(recover_stalled.run_once(queue.connection, queue.keys, interval_ms=60_000)
        for _ in range(5))) for _ in range(2)]  # fmt: skip
    assert rounds == [[[]] * 5] * 2
    assert queue.places() == {"active": ["1"]}


async def test_a_finished_job_is_left_alone(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    await check(queue)
    await queue.active.finish_and_take([Finish.completed(job, "1")], 0, "t")
    assert await check(queue) == []


async def test_with_bullmq_5_a_paused_queue_gets_it_where_paused_jobs_wait(redis_url: str, queue_name: str) -> None:
    async with open_queue(redis_url, queue_name, layout="5") as queue:
        await queue.add()
        await queue.take_one()
        await queue.producer.pause()
        queue.raw.delete(queue.keys.lock("1"))
        for _ in range(2):
            queue.raw.delete(queue.keys.stalled_check)
            await recover_stalled.run_once(queue.connection, queue.keys, layout="5")
        assert queue.places() == {"paused": ["1"]}


async def test_what_was_taken_is_found_a_part_at_a_time(queue: EngineQueue) -> None:
    """All of it may be more than a reply may hold, or than comes in time; then no try would ever succeed."""
    for _ in range(5):
        await queue.add(data="x" * 4_000_000)
    connection = AsyncConnection(queue.settings, max_reply_bytes=14_000_000)
    active = ActiveJobs(connection, queue.keys, queue.active.taker)
    with pytest.raises(errors.UnknownOutcomeError):
        await active.take(5, "mine:1")
    assert [job.id for job in await active.adopt("mine:", ["4"])] == ["5", "3", "2", "1"]
    await connection.close()
