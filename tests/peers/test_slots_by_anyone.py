"""Schedulers carried on by maintenance, by our worker and by BullMQ 5 and 6, all at once: a slot is one job."""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from support import invariants, maintainer, soak, worker_inside
from support.engine import open_queue
from support.node_peer import NodePeer, Peer
from support.waiting import wait_until_async
from toril import Job, Queue
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

EVERY_MS = 3000
"""Long enough that somebody is always there in time, also on a machine that stands still for a while: who finds slots
missed may pass over them."""
SCHEDULERS = 20


@pytest.mark.requirement("T23", "T108")
@pytest.mark.parametrize("slots", soak.lengths(3, 50))
async def test_a_slot_becomes_one_job_whoever_carries_it_on(
    nodes: Callable[[str], NodePeer], redis_url: str, queue_name: str, tmp_path: Path, slots: int
) -> None:
    runs: list[str] = []
    ids = [f"s{number}" for number in range(SCHEDULERS)]
    tasks = Queue(queue_name, url=redis_url)

    @tasks.default
    async def run(job: Job) -> None:
        runs.append(job.id)

    peers = [Peer(nodes(version), redis_url, queue_name) for version in ("5", "6")]
    async with open_queue(redis_url, queue_name) as queue:
        await asyncio.gather(*(peer.start() for peer in peers))
        queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", 10_000_000)
        with maintainer.running(redis_url, queue_name, tmp_path, count=2):
            async with worker_inside.running(tasks, concurrency=2):
                theirs = [await peer.worker(concurrency=2) for peer in peers]
                for scheduler_id in ids:
                    await queue.schedulers.upsert(scheduler_id, Schedule(every_ms=EVERY_MS), JobTemplate(name="echo"))

                async def is_enough() -> bool:
                    return bool(queue.raw.zcard(queue.keys.completed) >= SCHEDULERS * slots)

                await wait_until_async(is_enough, "the slots", timeout_seconds=EVERY_MS / 1000 * slots + 30)
                assert all([await queue.schedulers.remove(scheduler_id) for scheduler_id in ids])

                async def is_done() -> bool:
                    return set(queue.places()) == {"completed"}

                await wait_until_async(is_done, "the last jobs")
        by_maker = [runs, *[[started["id"] for started in await worker.runs()] for worker in theirs]]
        for peer in peers:
            await peer.close()
        await tasks.close()
        completed = invariants.assert_sound(queue.raw, queue_name).containers["completed"]
        added = collections.Counter(event["jobId"] for event in queue.events() if event["event"] == "added")
    assert sorted(itertools.chain(*by_maker)) == sorted(completed)
    assert sum(map(bool, by_maker)) > 1, "one had them all: nothing is shown"
    assert set(added.values()) == {1}
    for scheduler_id in ids:
        times = sorted(int(job.rpartition(":")[2]) for job in added if f":{scheduler_id}:" in job)
        assert {later - earlier for earlier, later in itertools.pairwise(times)} == {EVERY_MS}
