"""Looking at queues and jobs."""

from __future__ import annotations

import asyncio

import pytest
import redis

from support.engine import EngineQueue
from support.refusals import Server
from toril import clock, errors
from toril.engine import getters, operations, scripts
from toril.engine.events import QueueEvent, find_end, read_events
from toril.engine.getters import read_signals
from toril.engine.keys import QueueKeys
from toril.engine.worker import Finish
from toril.jobs.job import JobState


@pytest.mark.requirement("C-11", "I-23", "X-09")
async def test_one_job_in_every_state(queue: EngineQueue) -> None:
    for job_id in ("completed", "failed", "active"):
        await queue.add(jobId="is-" + job_id)
    done, bad, _ = await queue.take(3)
    await queue.active.finish_and_take([Finish.completed(done, "1"), Finish.failed(bad, "no", "[]")], 0, "t")
    await queue.add(jobId="is-waiting")
    await queue.add(jobId="is-prioritized", priority=1)
    await queue.add(jobId="is-delayed", delay=60_000)
    queue.raw.hset(queue.keys.job("is-waiting-children"), "name", "n")
    queue.raw.zadd(queue.keys.waiting_children, {"is-waiting-children": 1})
    for state in JobState:
        assert await queue.inspector.state("is-" + state) == (
            JobState.UNKNOWN if state is JobState.UNKNOWN else state
        )  # fmt: skip
        page = await queue.inspector.jobs(state)
        assert [job.id for job in page] == ([] if state is JobState.UNKNOWN else ["is-" + state])
    assert set((await queue.inspector.counts()).values()) == {1}


async def test_a_job_in_the_older_paused_list_is_waiting(queue: EngineQueue) -> None:
    queue.raw.lpush(queue.keys.paused, "x")
    assert await queue.inspector.state("x") is JobState.WAITING


async def test_pages_come_in_the_order_of_running(queue: EngineQueue) -> None:
    for number in range(5):
        await queue.add(data=number)
    pages = [[job.data for job in await queue.inspector.jobs(JobState.WAITING, *page)] for page in ((0, 1), (2, -1))]
    assert pages == [[0, 1], [2, 3, 4]]


async def test_a_job_that_is_not_there(queue: EngineQueue) -> None:
    assert await queue.inspector.state_and_job("none") == (JobState.UNKNOWN, None)


async def test_signals_tell_what_scaling_needs(queue: EngineQueue) -> None:
    now = clock.now_ms()
    await queue.add(timestamp=now - 5000)
    await queue.add(priority=1)
    await queue.add(delay=1, timestamp=now - 1000)
    await queue.add(delay=60_000, timestamp=now)
    found = await queue.inspector.signals()
    assert (found.waiting, found.prioritized, found.delayed, found.delayed_due, found.work) == (1, 1, 2, 1, 3)
    assert found.oldest_waiting_ms is not None
    assert 5000 <= found.oldest_waiting_ms < 15_000
    assert found.next_due_ms == now - 999
    await queue.take(1)
    (with_locks,) = await read_signals(queue.connection, [queue.keys], with_locks=True)
    assert not isinstance(with_locks, errors.RedisError)
    assert with_locks.locks_by_worker == {"worker-1": 1}
    await queue.producer.pause()
    assert (await queue.inspector.signals()).work == 1


@pytest.mark.requirement("Z-07")
async def test_signals_tell_the_limits_of_the_queue(queue: EngineQueue) -> None:
    found = await queue.inspector.signals()
    assert (found.global_concurrency, found.limit_max, found.limit_duration_ms, found.limit_used) == (None,) * 3 + (0,)
    queue.raw.hset(queue.keys.meta, mapping={"concurrency": 3, "max": "7", "duration": "60000"})
    for _ in range(4):
        await queue.add()
    await queue.take(2)
    found = await queue.inspector.signals()
    assert (found.global_concurrency, found.limit_max, found.limit_duration_ms, found.limit_used) == (3, 7, 60_000, 2)
    assert not found.is_paused
    queue.raw.hset(queue.keys.meta, mapping={"concurrency": "many", "max": "0", "duration": "-1", "paused": "1"})
    queue.raw.delete(queue.keys.limiter)
    queue.raw.lpush(queue.keys.limiter, "no number")
    found = await queue.inspector.signals()
    assert (found.global_concurrency, found.limit_max, found.limit_duration_ms, found.limit_used) == (None,) * 3 + (0,)
    assert found.is_paused


@pytest.mark.requirement("T33")
async def test_a_broken_queue_spoils_only_its_own_answer(queue: EngineQueue) -> None:
    await queue.add()
    queue.raw.set("bull:broken:wait", "x")
    queues = [QueueKeys("broken"), queue.keys, QueueKeys("empty")]
    broken, good, empty = await read_signals(queue.connection, queues)
    assert isinstance(broken, errors.WrongKeyTypeError)
    assert not isinstance(good, errors.RedisError)
    assert not isinstance(empty, errors.RedisError)
    assert (good.work, empty.work) == (1, 0)
    with pytest.raises(errors.WrongKeyTypeError):
        await type(queue.inspector)(queue.connection, QueueKeys("broken")).signals()


async def test_overdue_schedulers_are_unknown_when_the_key_is_no_sorted_set(queue: EngineQueue) -> None:
    await queue.add()
    queue.raw.set(queue.keys.repeat, "x")
    found = await queue.inspector.signals()
    assert (found.overdue_schedulers, found.work) == (None, 1)


@pytest.mark.parametrize("command", ["ZCOUNT", "LLEN", "HGET", "GET"])
async def test_a_command_that_is_denied_to_the_reader_is_named(
    queue: EngineQueue, redis_url: str, queue_name: str, command: str
) -> None:
    await queue.add()
    limited = Server(redis_url, queue_name)
    limited.make_user("~*", "+@all", f"-{command}")
    try:
        with pytest.raises(errors.RedisUnavailableError, match=f"no right to {command} bull:{queue_name}") as refusal:
            limited.limited.run(scripts.read_signals([queue.keys]))
        assert refusal.value.reason is errors.RedisReason.AUTH_FAILED
    finally:
        limited.close()


async def test_many_queues_take_several_calls(queue: EngineQueue) -> None:
    await queue.add()
    queues = [QueueKeys(f"other-{number}") for number in range(250)] + [queue.keys]
    found = await read_signals(queue.connection, queues)
    assert [entry.work for entry in found if not isinstance(entry, errors.RedisError)] == [0] * 250 + [1]


@pytest.mark.requirement("C-32", "I-10")
async def test_progress_data_and_logs(queue: EngineQueue) -> None:
    await queue.add(data=1)
    await queue.active.progress("1", '{"step":2}')
    await queue.active.update_data("1", '{"new":true}')
    assert [await queue.active.log("1", f"row {number}", 2) for number in range(3)] == [1, 2, 2]
    job = await queue.inspector.job("1")
    assert job is not None
    assert (job.progress, job.data) == ({"step": 2}, {"new": True})
    assert await queue.inspector.logs("1") == ["row 1", "row 2"]
    assert queue.events()[-1] == {"event": "progress", "jobId": "1", "data": '{"step":2}'}


async def test_a_job_that_is_gone_cannot_be_told_about(queue: EngineQueue) -> None:
    for call in (queue.active.progress("9", "1"), queue.active.update_data("9", "1"), queue.active.log("9", "x")):
        with pytest.raises(errors.JobNotFoundError, match="job 9"):
            await call
    assert queue.raw.keys(queue.keys.base + "9*") == []


@pytest.mark.requirement("Z-25", "X-25")
async def test_events_are_read_as_they_come_and_can_be_resumed(queue: EngineQueue) -> None:
    await queue.add("save")
    seen: list[QueueEvent] = []

    async def read(last_id: str, count: int) -> None:
        async for event in read_events(queue.blocking, queue.keys, last_id):
            seen.append(event)
            if len(seen) == count:
                return

    await asyncio.wait_for(read("0", 1), 30)
    assert (seen[0].name, seen[0].job_id, dict(seen[0].fields)) == ("added", "1", {"name": "save"})
    reading = asyncio.create_task(read(seen[0].id, 3))
    await queue.take(1)
    await asyncio.wait_for(reading, 30)
    assert [event.name for event in seen] == ["added", "waiting", "active"]


async def test_keep_logs_of_zero_keeps_all_as_bullmq_does(queue: EngineQueue) -> None:
    await queue.add()
    assert [await queue.active.log("1", f"row {number}", 0) for number in range(2)] == [1, 2]
    assert await queue.inspector.logs("1") == ["row 0", "row 1"]


async def test_metrics_that_are_no_numbers_count_as_none(queue: EngineQueue) -> None:
    key = queue.keys.base + "metrics:completed"
    queue.raw.hset(key, mapping={"count": "many", "prevTS": "1795378741099.5", "prevCount": "1e999"})
    queue.raw.rpush(key + ":data", "3", "1e999", "x", "2.0")
    found = await operations.execute(queue.connection, getters.metrics(queue.keys, "completed"))
    assert (found.count, found.previous_ms, found.previous_count) == (0, 1_795_378_741_099, 0)
    assert found.per_minute == [3, 0, 0, 2]


async def test_a_job_whose_id_is_no_text_can_be_asked_about(queue: EngineQueue, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as raw:
        raw.hset(queue.keys.base.encode() + b"\xff", mapping={"name": "n", "data": "{}", "opts": "{}"})
        raw.lpush(queue.keys.wait, b"\xff")
    (job,) = await queue.inspector.jobs(JobState.WAITING)
    assert await queue.inspector.state(job.id) == "waiting"
    since_ms = await queue.active.server_time_ms() - 1000
    assert await operations.execute(queue.connection, find_end(queue.keys, job.id, since_ms=since_ms)) is None
    with redis.Redis.from_url(redis_url) as raw:
        raw.xadd(queue.keys.events, {b"event": b"completed", b"jobId": b"\xff", b"\xfe": b"\xfe", b"returnvalue": b"1"})
    found = await operations.execute(queue.connection, find_end(queue.keys, job.id, since_ms=since_ms))
    assert found is not None
    assert found.fields["returnvalue"] == 1


@pytest.mark.parametrize("delay", ["1e999", "nan", "soon", ""])
def test_a_due_time_that_is_no_number_reads_as_none(delay: str) -> None:
    assert QueueEvent.of_entry("1-0", {"event": "delayed", "delay": delay}).fields["delay"] is None
