"""We add, BullMQ's workers run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Handle, Peer
from support.waiting import wait_until_async
from toril import clock
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

NO_POLL = {"drainDelay": 60, "stalledInterval": 60_000}
"""Such a worker looks again only when something wakes it."""


async def blocked(worker: Handle, ours: EngineQueue) -> None:
    """Wait until the worker waits for a wake-up: it has run our first job and its token is used up."""
    first = await ours.add("echo")
    await worker.runs_until(1)

    async def probe() -> bool:
        state = await ours.inspector.state(first)
        here = [client["cmd"] for client in ours.raw.client_list() if client["db"] == str(ours.settings.db)]
        return state == "completed" and "bzpopmin" in here and not ours.raw.exists(ours.keys.marker)

    await wait_until_async(probe, "a worker that is blocked")


@pytest.mark.requirement("Z-21")
@pytest.mark.wire(1)
async def test_a_blocked_worker_wakes_at_once(peer: Peer, ours: EngineQueue) -> None:
    worker = await peer.worker(**NO_POLL)
    await blocked(worker, ours)
    added_ms = clock.now_ms()
    job_id = await ours.add("echo", {"pageId": "p-1"})
    run = (await worker.runs_until(2))[1]
    assert run["id"] == job_id
    assert run["atMs"] - added_ms < 5000
    await peer.until_state(job_id, "completed")
    assert (await ours.inspector.job(job_id)).return_value == {"pageId": "p-1"}  # type: ignore[union-attr]


@pytest.mark.wire(5)
async def test_a_delayed_job_starts_when_it_is_due(peer: Peer, ours: EngineQueue) -> None:
    """An earlier one that arrives while a worker waits for a later one."""
    worker = await peer.worker(**NO_POLL)
    await blocked(worker, ours)
    start_ms = clock.now_ms()
    later = await ours.add("echo", delay=900, timestamp=start_ms)
    sooner = await ours.add("echo", delay=400, timestamp=start_ms)
    runs = (await worker.runs_until(3))[1:]
    assert [run["id"] for run in runs] == [sooner, later]
    for run, due_ms in zip(runs, (start_ms + 400, start_ms + 900), strict=True):
        assert due_ms <= run["atMs"] < due_ms + 5000


@pytest.mark.wire(3, 6, 7)
async def test_the_order_of_priorities_lifo_and_waiting(peer: Peer, ours: EngineQueue) -> None:
    adds: list[tuple[str, dict[str, Any]]] = [
        ("low-1", {"priority": 5}),
        ("high", {"priority": 1}),
        ("low-2", {"priority": 5}),
        ("first", {}),
        ("second", {}),
        ("due-important", {"priority": 2, "delay": 1, "timestamp": 1000}),
        ("due", {"delay": 1, "timestamp": 1000}),
        ("pushed-in", {"lifo": True}),
    ]
    for job_id, options in adds:
        await ours.add("echo", jobId=job_id, **options)
    runs = await (await peer.worker()).runs_until(len(adds))
    order = ["pushed-in", "first", "second", "due", "high", "due-important", "low-1", "low-2"]
    assert [run["id"] for run in runs] == order


VALUES = [None, 0, -1.5, "", "text", [], [1, [2]], {}, {"a": {"b": None}}, True, "ünï 🎉 / \\ \u2028", 2**53 - 1]


@pytest.mark.wire(13, 17)
@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_data_and_results_round_trip(peer: Peer, ours: EngineQueue, value: Any) -> None:
    """Our data in their job, and their result in ours."""
    job_id = await ours.add("echo", value)
    await peer.worker()
    await peer.until_state(job_id, "completed")
    theirs = await peer.queue.job(job_id)
    assert (theirs["data"], theirs["returnvalue"]) == (value, value)
    job = await ours.inspector.job(job_id)
    assert job is not None
    assert (job.data, job.return_value) == (value, value)


async def test_what_a_worker_tells_on_the_way(peer: Peer, ours: EngineQueue) -> None:
    data = {"progress": {"done": 3}, "rows": ["one", "two", "three"], "value": None}
    job_id = await ours.add("report", data, keepLogs=2)
    await peer.worker(name="node-1")
    await peer.until_state(job_id, "completed")
    job = await ours.inspector.job(job_id)
    assert job is not None
    assert (job.progress, job.return_value, job.processed_by) == ({"done": 3}, None, "node-1")
    assert await ours.inspector.logs(job_id) == ["two", "three"]


@pytest.mark.wire(10)
async def test_a_thousand_at_once_each_run_once(peer: Peer, ours: EngineQueue) -> None:
    options = JobOptions.from_bullmq({})
    ids = await ours.producer.add([NewJob.create("echo", {"n": number}, options) for number in range(1000)])
    worker = await peer.worker(concurrency=50)
    runs = await worker.runs_until(1000)
    assert sorted(run["id"] for run in runs) == sorted(ids)
    counts = await ours.inspector.counts()
    assert sum(counts.values()) == 1000


@pytest.mark.requirement("Z-19", "Z-20")
@pytest.mark.wire(58)
async def test_retention_that_we_ask_for(peer: Peer, ours: EngineQueue) -> None:
    for number in range(4):
        await ours.add("echo", jobId=f"keep-{number}", removeOnComplete={"count": 2})
    await ours.add("fail", {"message": "no"}, jobId="bad", removeOnFail=True)
    await (await peer.worker()).runs_until(5)

    async def probe() -> bool:
        return ours.places() == {"completed": ["keep-2", "keep-3"]}

    await wait_until_async(probe, "two kept jobs")
    assert ours.raw.exists(ours.keys.job("keep-0"), ours.keys.job("bad")) == 0


async def test_two_producers_number_their_jobs_together(peer: Peer, ours: EngineQueue) -> None:
    async def add_ours() -> list[str]:
        return [await ours.add("echo") for _ in range(20)]

    async def add_theirs() -> list[str]:
        return [await peer.queue.add("echo") for _ in range(20)]

    mine, theirs = await asyncio.gather(add_ours(), add_theirs())
    assert sorted(int(job_id) for job_id in mine + theirs) == list(range(1, 41))
