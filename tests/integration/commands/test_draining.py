"""Flagged workers take nothing: those that are to be removed, until they are gone or their flag is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue
from toril.engine import draining
from toril.engine.limits import LimitedQueue
from toril.engine.worker import Finish, Limiter


async def test_a_flagged_worker_takes_nothing_and_is_told_so(queue: EngineQueue) -> None:
    await queue.add()
    await draining.flag(queue.connection, queue.keys, ["worker-1"])
    taken = await queue.active.take(5, queue.token())
    assert (taken.jobs, taken.is_draining, taken.rate_limit_ms, taken.is_counted) == ([], True, 0, False)
    assert queue.places() == {"wait": ["1"]}
    other = await queue.worker("worker-2").take(5, queue.token())
    assert ([job.id for job in other.jobs], other.is_draining) == (["1"], False)


async def test_a_worker_without_a_name_is_never_flagged(queue: EngineQueue) -> None:
    await queue.add()
    await draining.flag(queue.connection, queue.keys, ["worker-1", ""])
    assert [job.id for job in (await queue.worker("").take(1, queue.token())).jobs] == ["1"]


async def test_a_flagged_worker_still_ends_its_jobs(queue: EngineQueue) -> None:
    await queue.add()
    await queue.add()
    job = await queue.take_one()
    await draining.flag(queue.connection, queue.keys, ["worker-1"])
    reply = await queue.active.finish_and_take([Finish.completed(job, "1")], 1, queue.token())
    assert (reply.codes, reply.taken.jobs, reply.taken.is_draining) == ([0], [], True)
    assert queue.places() == {"wait": ["2"], "completed": ["1"]}


async def test_the_last_end_by_a_flagged_worker_says_that_the_queue_is_empty(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    await draining.flag(queue.connection, queue.keys, ["worker-1"])
    await queue.active.finish_and_take([Finish.completed(job, "1")], 1, queue.token())
    assert queue.event_names()[-1] == "drained"


@pytest.mark.parametrize("options", [{}, {"priority": 2}], ids=["waiting", "prioritized"])
async def test_the_wake_up_is_put_back_when_a_job_can_run(queue: EngineQueue, options: dict[str, Any]) -> None:
    await queue.add(**options)
    await draining.flag(queue.connection, queue.keys, ["worker-1"])
    queue.raw.delete(queue.keys.marker)
    await queue.active.take(1, queue.token())
    assert queue.raw.zscore(queue.keys.marker, "0") == 0


async def test_a_due_job_is_promoted_and_wakes_another_worker(queue: EngineQueue) -> None:
    await queue.add(delay=1, timestamp=1)
    await draining.flag(queue.connection, queue.keys, ["worker-1"])
    queue.raw.delete(queue.keys.marker)
    assert (await queue.active.take(1, queue.token())).jobs == []
    assert queue.places() == {"wait": ["1"]}
    assert queue.raw.zscore(queue.keys.marker, "0") == 0


@pytest.mark.parametrize("why", ["empty", "paused", "concurrency", "rate"])
async def test_the_wake_up_is_not_put_back_when_no_job_can_run(queue: EngineQueue, why: str) -> None:
    limits = LimitedQueue(queue.connection, queue.keys)
    if why != "empty":
        await queue.add()
        await queue.add()
    if why == "paused":
        await queue.producer.pause()
    elif why == "concurrency":
        await limits.set(concurrency=1)
        await queue.take_one()
    elif why == "rate":
        await limits.set(max=1, duration=60_000)
        await queue.take_one()
    await draining.flag(queue.connection, queue.keys, ["worker-1"])
    queue.raw.delete(queue.keys.marker)
    assert (await queue.active.take(1, queue.token())).is_draining
    assert not queue.raw.exists(queue.keys.marker)


async def test_a_workers_own_rate_limit_holds_for_the_wake_up_too(queue: EngineQueue) -> None:
    worker = queue.worker("worker-1", limiter=Limiter(1, 60_000))
    await queue.add()
    await queue.add()
    assert len((await worker.take(1, queue.token())).jobs) == 1
    await draining.flag(queue.connection, queue.keys, ["worker-1"])
    queue.raw.delete(queue.keys.marker)
    assert (await worker.take(1, queue.token())).is_draining
    assert not queue.raw.exists(queue.keys.marker)


async def test_a_flag_says_since_when_and_is_renewed_without_changing_that(queue: EngineQueue) -> None:
    await draining.flag(queue.connection, queue.keys, ["a", "b"])
    first = await draining.read_flags(queue.connection, queue.keys)
    assert set(first) == {"a", "b"}
    now_ms = await queue.active.server_time_ms()
    assert all(now_ms - 60_000 < since_ms <= now_ms for since_ms in first.values())
    queue.raw.pexpire(queue.keys.draining, 20_000)
    await draining.flag(queue.connection, queue.keys, ["b", "c"])
    assert (await draining.read_flags(queue.connection, queue.keys)).items() >= first.items()
    assert 20_000 < queue.raw.pttl(queue.keys.draining) <= draining.FLAG_MS == 60_000


async def test_a_flag_is_taken_back(queue: EngineQueue) -> None:
    await draining.flag(queue.connection, queue.keys, ["worker-1", "worker-2"])
    await draining.unflag(queue.connection, queue.keys, ["worker-1"])
    await queue.add()
    assert len(await queue.take(1)) == 1
    await draining.unflag(queue.connection, queue.keys, ["worker-2"])
    assert not queue.raw.exists(queue.keys.draining)


async def test_flagging_nobody_writes_nothing(queue: EngineQueue) -> None:
    await draining.flag(queue.connection, queue.keys, [])
    await draining.unflag(queue.connection, queue.keys, [])
    assert queue.raw.keys("*") == []


async def test_a_key_of_another_type_flags_nobody(queue: EngineQueue) -> None:
    queue.raw.set(queue.keys.draining, "text")
    await queue.add()
    assert len((await queue.active.take(1, queue.token())).jobs) == 1


async def test_a_take_costs_one_command_more_however_many_jobs_it_takes(queue: EngineQueue) -> None:
    for _ in range(20):
        await queue.add()
    queue.raw.config_resetstat()
    assert len((await queue.active.take(10, queue.token())).jobs) == 10
    stats = queue.raw.info("commandstats")
    assert stats["cmdstat_hget"]["calls"] == 1
