"""Deduplication where BullMQ is no measure: batches, foreign and broken data, and what it would leave behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.engine import EngineQueue, open_queue
from toril.engine.worker import Finish
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

LAST = {"id": "d", "keepLastIfActive": True}


def new(deduplication: dict[str, Any] | None = None, **options: Any) -> NewJob:
    if deduplication:
        options["deduplication"] = deduplication
    return NewJob.create("n", {}, JobOptions.from_bullmq(options))


def park(queue: EngineQueue, **fields: str) -> None:
    """As another library leaves it."""
    parked = {"name": "n", "data": '{"n":2}', "opts": json.dumps({"de": LAST}), "jid": "7", **fields}
    queue.raw.hset(queue.keys.base + "dn:d", mapping=parked)


async def test_a_batch_is_one_call_and_keeps_its_order(queue: EngineQueue) -> None:
    await queue.producer.add([new()])
    calls = queue.raw.info("commandstats")["cmdstat_evalsha"]["calls"]
    ids = await queue.producer.add([new(), new({"id": "d"}), new(), new({"id": "d"}), new({"id": "e"}), new()])
    assert queue.raw.info("commandstats")["cmdstat_evalsha"]["calls"] == calls + 1
    assert ids == ["2", "3", "4", "3", "6", "7"]
    assert queue.places() == {"wait": ["1", "2", "3", "4", "6", "7"]}
    assert queue.raw.get(queue.keys.deduplication("d")) == "3"


async def test_a_batch_replaces_within_itself(queue: EngineQueue) -> None:
    debounce = {"id": "d", "ttl": 5000, "replace": True, "extend": True}
    ids = await queue.producer.add([new(debounce, delay=5000) for _ in range(3)])
    assert (ids, queue.places()) == (["1", "2", "3"], {"delayed": ["3"]})
    assert queue.hash("1") == {}


async def test_the_key_is_kept_by_what_does_not_end_a_job(queue: EngineQueue) -> None:
    await queue.producer.add([new({"id": "d"}, attempts=3)])
    await queue.finish(Finish.retry(await queue.take_one(), "x", "[]", 0))
    assert queue.raw.get(queue.keys.deduplication("d")) == "1"
    await queue.finish(Finish.requeue(await queue.take_one()))
    assert queue.raw.get(queue.keys.deduplication("d")) == "1"


async def test_a_repeated_finish_adds_what_was_parked_once(queue: EngineQueue) -> None:
    await queue.producer.add([new(LAST)])
    job = await queue.take_one()
    await queue.producer.add([new(LAST)])
    finish = Finish.completed(job, "1")
    await queue.finish(finish)
    reply = await queue.active.finish_and_take([finish], 0, queue.token())
    assert (reply.codes, queue.places()) == ([1], {"wait": ["2"], "completed": ["1"]})


async def test_what_was_parked_is_taken_by_the_call_that_ends_its_winner(queue: EngineQueue) -> None:
    await queue.producer.add([new(LAST)])
    job = await queue.take_one()
    await queue.producer.add([new(LAST)])
    assert [job.id for job in await queue.finish(Finish.completed(job, "1"), take=1)] == ["2"]


async def test_what_was_parked_wakes_a_worker(queue: EngineQueue) -> None:
    await queue.producer.add([new(LAST)])
    job = await queue.take_one()
    await queue.producer.add([new({**LAST}, delay=60_000)])
    queue.raw.delete(queue.keys.marker)
    await queue.finish(Finish.completed(job, "1"))
    assert queue.raw.zscore(queue.keys.marker, "1") > 60_000


async def test_an_id_that_came_into_use_is_not_overwritten(queue: EngineQueue) -> None:
    """BullMQ puts the parked job over it: what was there is lost, or active under another's data."""
    await queue.producer.add([new(LAST)])
    job = await queue.take_one()
    await queue.producer.add([new(LAST, jobId="mine")])
    await queue.producer.add([new(jobId="mine", priority=5)])
    await queue.finish(Finish.completed(job, "1"))
    assert queue.places() == {"wait": ["4"], "prioritized": ["mine"], "completed": ["1"]}
    assert queue.raw.get(queue.keys.deduplication("d")) == "4"


@pytest.mark.parametrize("opts", ["", "[]", "nonsense", '{"de": null, "delay": null, "priority": "x"}'])
async def test_parked_options_that_make_no_sense_lose_no_job(queue: EngineQueue, opts: str) -> None:
    await queue.producer.add([new(LAST)])
    job = await queue.take_one()
    park(queue, opts=opts)
    await queue.finish(Finish.failed(job, "x", "[]"))
    assert queue.places() == {"wait": ["7"], "failed": ["1"]}
    assert not queue.raw.exists(queue.keys.base + "dn:d")


async def test_a_parked_job_is_tied_to_its_parent(queue: EngineQueue) -> None:
    await queue.producer.add([new(LAST)])
    job = await queue.take_one()
    parent = {"id": "p", "queueKey": "bull:other"}
    park(queue, pk="bull:other:p", pd=json.dumps(parent), pdk="bull:other:p:dependencies", rjk="nightly")
    await queue.finish(Finish.completed(job, "1"))
    stored = queue.hash("7")
    assert (stored["parentKey"], json.loads(stored["parent"]), stored["rjk"]) == ("bull:other:p", parent, "nightly")
    assert queue.raw.smembers("bull:other:p:dependencies") == {queue.keys.job("7")}


@pytest.mark.parametrize("ttl", [0.5, 1e300, -1, "x", {}, None])
async def test_nonsense_in_a_parked_job_keeps_no_job_from_its_end(queue: EngineQueue, ttl: Any) -> None:
    await queue.producer.add([new(LAST)])
    job = await queue.take_one()
    park(queue, opts=json.dumps({"de": {"id": "d", "ttl": ttl}, "priority": ttl, "delay": ttl}))
    await queue.finish(Finish.completed(job, "1"))
    assert queue.places()["completed"] == ["1"]
    assert queue.hash("7")["name"] == "n"


async def test_a_parked_job_of_a_paused_queue_waits_where_paused_jobs_wait(redis_url: str, queue_name: str) -> None:
    async with open_queue(redis_url, queue_name, layout="5") as queue:
        await queue.producer.add([new(LAST)])
        job = await queue.take_one()
        await queue.producer.add([new(LAST)])
        await queue.producer.pause()
        await queue.finish(Finish.completed(job, "1"))
        assert queue.places() == {"paused": ["2"], "completed": ["1"]}
        assert not queue.raw.exists(queue.keys.marker)


async def test_replacing_a_child_does_not_leave_its_parent_waiting(queue: EngineQueue) -> None:
    """BullMQ leaves the removed job among the parent's pending children for ever."""
    replace = {"id": "d", "replace": True}
    await queue.producer.add([new(replace, delay=5000, jobId="child")])
    parent_key = queue.keys.job("parent")
    queue.raw.hset(parent_key, mapping={"name": "n", "data": "{}", "opts": "{}", "timestamp": "1"})
    queue.raw.zadd(queue.keys.waiting_children, {"parent": 1})
    queue.raw.sadd(parent_key + ":dependencies", queue.keys.job("child"))
    link = {"id": "parent", "queueKey": queue.keys.base[:-1]}
    queue.raw.hset(queue.keys.job("child"), mapping={"parentKey": parent_key, "parent": json.dumps(link)})
    await queue.producer.add([new(replace, delay=5000)])
    assert queue.places() == {"wait": ["parent"], "delayed": ["2"]}


async def test_a_stale_key_does_not_block_for_ever_in_either_layout(redis_url: str, queue_name: str) -> None:
    async with open_queue(redis_url, queue_name, layout="5") as queue:
        queue.raw.set(queue.keys.deduplication("d"), "gone")
        assert await queue.producer.add([new({"id": "d"})]) == ["1"]
        assert queue.raw.get(queue.keys.deduplication("d")) == "1"
