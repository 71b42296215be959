"""What is asked about a queue is answered as BullMQ answers it."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue
from support.flow_trees import add, tree
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril.engine import getters, operations
from toril.engine.redis.connection import BlockingConnection
from toril.engine.worker import Finish
from toril.jobs.job import JobState

STATES = [state for state in JobState if state is not JobState.UNKNOWN]


async def fill(peer: Peer, ours: EngineQueue) -> None:
    """Jobs in every state, made by both sides."""
    for number in range(12):
        if number % 2:
            await peer.queue.add("echo", {}, jobId=f"a-{number}")
        else:
            await ours.add("echo", jobId=f"a-{number}")
    jobs = await ours.take(6)
    await ours.finish(
        *[Finish.completed(job, "1") for job in jobs[:2]], *[Finish.failed(job, "no", "[]") for job in jobs[2:4]]
    )
    for priority in (3, 1, 1, 2097151):
        await ours.add("echo", priority=priority)
        await peer.queue.add("echo", {}, priority=priority)
    for delay in (60_000, 30_000):
        await ours.add("echo", delay=delay)
        await peer.queue.add("echo", {}, delay=delay)
    await add(ours.connection, tree(ours, "p", tree(ours, "child")))


PAGES = [(0, -1), (0, 0), (0, 2), (1, 3), (5, 100), (2, -1)]


@pytest.mark.wire(95)
@pytest.mark.requirement("I-23")
@pytest.mark.parametrize("is_paused", [False, True], ids=["running", "paused"])
async def test_pages_of_every_state(peer: Peer, ours: EngineQueue, is_paused: bool) -> None:
    await fill(peer, ours)
    if is_paused:
        await ours.producer.pause()
    for state in STATES:
        names = [state.value, *(["paused"] if state is JobState.WAITING and peer.version == "5" else [])]
        for first, last in PAGES:
            for newest_first in (False, True):
                theirs = await peer.queue.call("getJobs", names, first, last, not newest_first)
                mine = await operations.execute(
                    ours.connection, getters.jobs(ours.keys, [state], first, last, newest_first=newest_first)
                )
                assert [job.id for job in mine] == [job["id"] for job in theirs], (state, first, last, newest_first)
    several = [JobState.FAILED, JobState.ACTIVE]
    theirs = await peer.queue.call("getJobs", ["failed", "active"], 0, 1, True)
    mine = await operations.execute(ours.connection, getters.jobs(ours.keys, several, 0, 1))
    assert [job.id for job in mine] == [job["id"] for job in theirs]


@pytest.mark.wire(95)
@pytest.mark.parametrize("is_paused", [False, True], ids=["running", "paused"])
async def test_counts(peer: Peer, ours: EngineQueue, is_paused: bool) -> None:
    await fill(peer, ours)
    if is_paused:
        await ours.producer.pause()
    priorities = [0, 1, 2, 3, 2097151]
    theirs = await peer.queue.call("getCountsPerPriority", priorities)
    mine = await operations.execute(ours.connection, getters.counts_by_priority(ours.keys, priorities))
    assert mine == {int(priority): count for priority, count in theirs.items()}
    assert (mine[0], mine[1], mine[2]) == (7, 4, 0)
    counted = await peer.queue.call("getJobCounts")
    counted["waiting"] += counted.pop("paused", 0)
    assert await operations.execute(ours.connection, getters.counts(ours.keys)) == counted
    assert await operations.execute(ours.connection, getters.is_paused(ours.keys)) is is_paused


@pytest.mark.wire(96)
@pytest.mark.requirement("I-22")
async def test_logs(peer: Peer, ours: EngineQueue) -> None:
    job_id = await ours.add("echo")
    for number in range(3):
        await ours.active.log(job_id, f"ours {number}")
        await peer.queue.job(job_id, "log", f"theirs {number}")
    for first, last in [(0, -1), (0, 1), (2, 3), (4, 9), (7, 9)]:
        for newest_first in (False, True):
            theirs = await peer.queue.call("getJobLogs", job_id, first, last, not newest_first)
            mine = await operations.execute(
                ours.connection, getters.logs(ours.keys, job_id, first, last, newest_first=newest_first)
            )
            assert (mine.rows, mine.count) == (theirs["logs"], theirs["count"])
    assert await operations.execute(ours.connection, getters.logs(ours.keys, "none")) == getters.JobLogs([], 0)


@pytest.mark.wire(98)
@pytest.mark.requirement("I-22")
async def test_metrics(peer: Peer, ours: EngineQueue) -> None:
    key = ours.keys.base + "metrics:completed"
    empty = await operations.execute(ours.connection, getters.metrics(ours.keys, "failed"))
    assert empty == getters.QueueMetrics(0, [], 0, None, 0)
    ours.raw.hset(key, mapping={"count": 17, "prevTS": 1_790_000_000_000, "prevCount": 15})
    ours.raw.rpush(key + ":data", 3, 0, 12)
    for first, last in [(0, -1), (1, 1), (2, 9)]:
        theirs = await peer.queue.call("getMetrics", "completed", first, last)
        mine = await operations.execute(ours.connection, getters.metrics(ours.keys, "completed", first, last))
        assert (mine.per_minute, mine.points) == (theirs["data"], theirs["count"])
        meta = theirs["meta"]
        assert (mine.count, mine.previous_ms, mine.previous_count) == (meta["count"], meta["prevTS"], meta["prevCount"])


@pytest.mark.wire(97)
async def test_workers_and_readers_of_events(peer: Peer, ours: EngineQueue) -> None:
    await peer.worker(name="node-1")
    await peer.worker()
    await peer.listener()
    suffixes = [":w:ours", "", ":qe"]
    clients = [BlockingConnection(ours.settings, client_name=ours.keys.client_name(suffix)) for suffix in suffixes]
    for client in clients:
        await client.read_stream({ours.keys.events: "$"}, block_ms=1)

    async def all_are_named() -> bool:
        # BullMQ's QueueEvents is ready before it has told its name.
        found = [len(await peer.queue.call(method)) for method in ("getWorkers", "getQueueEvents")]
        return found == [4, 2]

    await wait_until_async(all_are_named, "every connection to have its name")
    mine: dict[str, list[Any]] = {
        "getWorkers": await operations.execute(ours.connection, getters.workers(ours.keys)),
        "getQueueEvents": await operations.execute(ours.connection, getters.event_readers(ours.keys)),
    }
    for method, found in mine.items():
        theirs = await peer.queue.call(method)
        assert sorted(client.address for client in found) == sorted(client["addr"] for client in theirs)
    assert sorted(client.name for client in mine["getWorkers"]) == ["", "", "node-1", "ours"]
    assert len(mine["getQueueEvents"]) == 2
    for client in clients:
        await client.close()
