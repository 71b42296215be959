"""`finish_and_take` has a way of its own for plain jobs. Whatever it does, the general way does too."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue, open_queue
from toril.engine.active import Finish, TakenJob

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
