"""`add_jobs` and `finish_and_take` have ways of their own for plain jobs. What those do, the general way does too."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue, open_queue
from toril.engine.active import Finish, TakenJob
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

TIMES = {"timestamp", "processedOn", "finishedOn"}


async def work(queue: EngineQueue, in_order: bool, count: int) -> dict[str, Any]:
    """End three of five jobs, take others; answer all that is stored, without times."""
    for _ in range(5):
        await queue.add()
    queue.raw.lpush(queue.keys.wait, "gone")
    jobs = await queue.take(3)
    ended: list[TakenJob] = jobs if in_order else [jobs[2], jobs[1]]
    queue.raw.sadd(queue.keys.stalled, *(job.id for job in jobs))
    reply = await queue.active.finish_and_take([Finish.completed(job, f'"{job.id}"') for job in ended], count, "t:2")
    return {
        "codes": reply.codes,
        "taken": [(job.id, job.token, job.attempts_started, job.processed_by, job.data) for job in reply.taken.jobs],
        "next": (reply.taken.rate_limit_ms, reply.taken.next_due_ms),
        "places": queue.places(),
        "events": queue.events(),
        "hashes": [
            {name: value for name, value in queue.hash(str(number)).items() if name not in TIMES}
            for number in range(1, 6)
        ],
        "locks": sorted(key.split(":")[2] for key in queue.raw.keys(queue.keys.base + "*:lock")),
        "stalled": queue.raw.smembers(queue.keys.stalled),
        "marker": queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True),
    }


@pytest.mark.parametrize("in_order", [True, False], ids=["oldest", "in-between"])
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_both_ways_do_the_same(redis_url: str, queue_name: str, in_order: bool, count: int) -> None:
    async with open_queue(redis_url, queue_name) as plain, open_queue(redis_url, f"{queue_name}-limited") as limited:
        # A limit that limits nothing is enough for the general way.
        limited.raw.hset(limited.keys.meta, "concurrency", 1000)
        found = await work(plain, in_order, count)
        assert len(found["taken"]) == min(count, 2)
        assert found == await work(limited, in_order, count)


async def test_both_ways_add_the_same(redis_url: str, queue_name: str) -> None:
    async def add(queue: EngineQueue) -> dict[str, Any]:
        await queue.add("first")  # writes what the plain way finds in `meta`
        options = [JobOptions(), JobOptions.from_bullmq({"attempts": 3})]
        jobs = [NewJob.create(f"n{number % 3}", {"n": number}, options[number % 2]) for number in range(20)]
        ids = await queue.producer.add(jobs)
        stored = [queue.hash(job_id) for job_id in ids]
        for fields in stored:
            del fields["timestamp"]
        marker = queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True)
        return {"ids": ids, "places": queue.places(), "events": queue.events(), "stored": stored, "marker": marker}

    async with open_queue(redis_url, queue_name) as plain, open_queue(redis_url, f"{queue_name}-limited") as limited:
        limited.raw.hset(limited.keys.meta, "concurrency", 1000)
        found = await add(plain)
        assert found["ids"] == [str(number) for number in range(2, 22)]
        assert found == await add(limited)
