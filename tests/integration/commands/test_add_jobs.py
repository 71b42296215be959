"""Adding: what is stored, where, and what is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.engine import EngineQueue, open_queue
from toril import clock, errors
from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions


async def test_a_job_is_stored_and_told(queue: EngineQueue) -> None:
    before = clock.now_ms()
    job_id = await queue.add("save", {"page": 1})
    stored = queue.hash(job_id)
    assert before <= int(stored.pop("timestamp")) <= clock.now_ms()
    assert json.loads(stored.pop("opts")) == {"attempts": 0}
    assert stored == {"name": "save", "data": '{"page":1}', "delay": "0", "priority": "0"}
    assert queue.places() == {"wait": ["1"]}
    assert queue.events() == [
        {"event": "added", "jobId": "1", "name": "save"},
        {"event": "waiting", "jobId": "1"},
    ]
    assert queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True) == [("0", 0.0)]
    assert queue.raw.hgetall(queue.keys.meta) == {"opts.maxLenEvents": "10000"}


async def test_first_in_first_out_and_lifo_in_front(queue: EngineQueue) -> None:
    for job_id in ("a", "b", "c"):
        await queue.add(jobId=job_id)
    await queue.add(jobId="now", lifo=True)
    assert [job.id for job in await queue.take(10)] == ["now", "a", "b", "c"]


async def test_a_bulk_add_keeps_its_order_in_every_place(queue: EngineQueue) -> None:
    options: list[dict[str, Any]] = [{"jobId": "a"}, {"jobId": "p2", "priority": 2}, {"jobId": "d", "delay": 60_000},
        {"jobId": "b"}, {"jobId": "p1", "priority": 1}, {"jobId": "l1", "lifo": True}, {"jobId": "l2", "lifo": True},
    ]  # fmt: skip
    jobs = [NewJob.create("n", None, JobOptions.from_bullmq(given)) for given in options]
    assert await queue.producer.add(jobs) == [given["jobId"] for given in options]
    assert queue.places() == {"wait": ["l2", "l1", "a", "b"], "prioritized": ["p1", "p2"], "delayed": ["d"]}
    assert [entry["event"] for entry in queue.events()] == [
        "added", "waiting", "added", "waiting", "added", "delayed", *["added", "waiting"] * 4,
    ]  # fmt: skip


async def test_kinds_that_alternate_keep_their_order_and_their_numbers(queue: EngineQueue) -> None:
    plain, named, late = (
        JobOptions(),
        JobOptions.from_bullmq({"jobId": "own"}),
        JobOptions.from_bullmq({"delay": 60_000}),
    )
    kinds = [("a", plain), ("a", plain), ("b", plain), ("c", named), ("a", plain), ("d", late), ("b", plain)]
    jobs = [NewJob.create(name, number, options) for number, (name, options) in enumerate(kinds)]
    # A job with an id of its own uses up a number, as in BullMQ.
    assert await queue.producer.add(jobs) == ["1", "2", "3", "own", "5", "6", "7"]
    assert [(job.id, job.name, job.data) for job in await queue.take(9)] == [
        ("1", "a", 0), ("2", "a", 1), ("3", "b", 2), ("own", "c", 3), ("5", "a", 4), ("7", "b", 6),
    ]  # fmt: skip
    assert queue.places()["delayed"] == ["6"]


async def test_more_jobs_than_one_call_takes(queue: EngineQueue) -> None:
    jobs = [NewJob.create("n", number, JobOptions()) for number in range(2345)]
    assert await queue.producer.add(jobs) == [str(number) for number in range(1, 2346)]
    assert queue.raw.llen(queue.keys.wait) == 2345
    assert [job.data for job in await queue.take(3)] == [0, 1, 2]


async def test_they_keep_their_order_on_a_server_that_forgets_the_script(queue: EngineQueue) -> None:
    """Calls under way would all be refused, and made again behind those that come later."""

    def new_jobs() -> Iterator[NewJob]:
        for number in range(2345):
            # The first time nobody has told it yet, later it forgets while calls are under way.
            if number in (0, 1111):
                queue.raw.script_flush()
            yield NewJob.create("n", number, JobOptions())

    assert await queue.producer.add(new_jobs()) == [str(number) for number in range(1, 2346)]
    assert [job.data for job in await queue.take(2345)] == list(range(2345))


async def test_no_jobs_are_no_call(queue: EngineQueue) -> None:
    assert await queue.producer.add([]) == []
    assert queue.raw.keys("*") == []


async def test_a_delayed_job_stands_at_its_due_time(queue: EngineQueue) -> None:
    for job_id in ("a", "b"):
        await queue.add(jobId=job_id, delay=60_000, timestamp=1_800_000_000_000)
    due = 1_800_000_060_000
    assert queue.raw.zrange(queue.keys.delayed, 0, -1, withscores=True) == [("a", due * 4096), ("b", due * 4096 + 1)]
    assert queue.events()[1] == {"event": "delayed", "jobId": "a", "delay": str(due)}
    assert queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True) == [("1", float(due))]


async def test_places_within_a_millisecond_are_capped(queue: EngineQueue) -> None:
    due = 1_800_000_000_000
    queue.raw.zadd(queue.keys.delayed, {"last": due * 4096 + 4095})
    await queue.add(jobId="a", delay=1, timestamp=due - 1)
    assert queue.raw.zscore(queue.keys.delayed, "a") == due * 4096 + 4095


async def test_priorities_order_and_keep_their_turn(queue: EngineQueue) -> None:
    for job_id, priority in (("low", 5), ("high", 1), ("low2", 5), ("none", 0)):
        await queue.add(jobId=job_id, priority=priority)
    assert queue.raw.zscore(queue.keys.prioritized, "low2") == 5 * 2**32 + 3
    assert [job.id for job in await queue.take(10)] == ["none", "high", "low", "low2"]


@pytest.mark.requirement("T10")
async def test_an_id_that_is_there_is_returned_and_nothing_changes(queue: EngineQueue) -> None:
    await queue.add("first", {"n": 1}, jobId="same")
    before = queue.hash("same")
    assert await queue.add("second", {"n": 2}, jobId="same", delay=5000) == "same"
    assert queue.hash("same") == before
    assert queue.places() == {"wait": ["same"]}
    assert queue.events()[-1] == {"event": "duplicated", "jobId": "same"}
    assert queue.raw.get(queue.keys.id) == "2"


async def test_the_same_id_twice_in_one_call_is_one_job(queue: EngineQueue) -> None:
    jobs = [NewJob.create("n", number, JobOptions.from_bullmq({"jobId": "x"})) for number in (1, 2)]
    assert await queue.producer.add(jobs) == ["x", "x"]
    assert queue.places() == {"wait": ["x"]}
    assert queue.hash("x")["data"] == "1"


async def test_a_paused_queue_takes_jobs_but_wakes_nobody(queue: EngineQueue) -> None:
    await queue.producer.pause()
    await queue.add()
    await queue.add(delay=60_000)
    assert [member for member, _ in queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True)] == ["1"]
    assert queue.places() == {"wait": ["1"], "delayed": ["2"]}


async def test_with_bullmq_5_a_paused_queues_jobs_wait_apart(redis_url: str, queue_name: str) -> None:
    async with open_queue(redis_url, queue_name, layout="5") as queue:
        await queue.producer.pause()
        await queue.add()
        assert queue.places() == {"paused": ["1"]}


async def test_a_maxed_queue_wakes_nobody(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.meta, "concurrency", 1)
    await queue.add()
    await queue.take()
    queue.raw.delete(queue.keys.marker)
    await queue.add()
    assert queue.raw.exists(queue.keys.marker) == 0


@pytest.mark.parametrize("name", ["wait", "delayed", "prioritized", "marker", "events", "meta", "id"])
@pytest.mark.requirement("T33")
async def test_a_key_of_the_wrong_type_is_an_error_and_nothing_is_written(queue: EngineQueue, name: str) -> None:
    if name in ("meta", "id"):
        queue.raw.rpush(queue.keys.base + name, "x")
    else:
        queue.raw.set(queue.keys.base + name, "x")
    with pytest.raises(errors.RedisError):
        await queue.add(priority=1)
    written = {key for key in queue.raw.keys(queue.keys.base + "*") if key != queue.keys.meta}
    assert written <= {queue.keys.base + name}


async def test_the_event_stream_is_capped(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", 100)
    for _ in range(4):
        await queue.producer.add([NewJob.create("n", None, JobOptions())] * 200)
    # `~` trims whole nodes of the stream, so some more than the cap may stay.
    assert queue.raw.xlen(queue.keys.events) < 700


def test_the_clock_is_the_callers() -> None:
    call = scripts.add_jobs(QueueKeys("q"), [NewJob.create("n", None, JobOptions.from_bullmq({"delay": 5}))], now_ms=77)
    assert call.args[6:8] == [77, 5]
