"""We add, BullMQ's workers run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support import worker_inside
from support.engine import EngineQueue
from support.node_peer import Handle, Peer, PeerError
from support.waiting import wait_until_async
from toril import Job, Queue, clock, errors
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
    assert run["atMs"] - added_ms < 30_000
    await peer.until_state(job_id, "completed")
    assert (await ours.inspector.job(job_id)).return_value == {"pageId": "p-1"}  # type: ignore[union-attr]


@pytest.mark.wire(5)
async def test_a_delayed_job_starts_when_it_is_due(peer: Peer, ours: EngineQueue) -> None:
    """An earlier one that arrives while a worker waits for a later one."""
    worker = await peer.worker(**NO_POLL)
    await blocked(worker, ours)
    start_ms = clock.now_ms()
    later = await ours.add("echo", delay=3_600_000, timestamp=start_ms)
    sooner = await ours.add("echo", delay=400, timestamp=start_ms)
    (run,) = (await worker.runs_until(2))[1:]
    assert run["id"] == sooner
    assert start_ms + 400 <= run["atMs"] < start_ms + 30_000
    assert await ours.inspector.state(later) == "delayed"


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


@pytest.mark.wire(11)
async def test_priorities_and_sizes_are_refused_where_theirs_are(peer: Peer, ours: EngineQueue) -> None:
    """`sizeLimit` counts the bytes of the JSON in UTF-8, not its characters."""
    data = {"text": "ü" * 20}
    size = len('{"text":""}') + 40
    for options in ({"priority": 2_097_152}, {"priority": 1.5}, {"sizeLimit": size - 1}):
        with pytest.raises(PeerError):
            await peer.queue.add("echo", data, **options)
        with pytest.raises(errors.InvalidInputError):
            await ours.add("echo", data, **options)
    assert ours.places() == {}
    for accepted in ({"priority": 2_097_151}, {"priority": 0}, {"sizeLimit": size}):
        assert int(await peer.queue.add("echo", data, **accepted)) + 1 == int(await ours.add("echo", data, **accepted))
    await (await peer.worker()).runs_until(6)


@pytest.mark.wire(12)
async def test_what_is_none_is_not_stored_and_breaks_no_worker_of_theirs(peer: Peer, ours: EngineQueue) -> None:
    """A null in a job's options or parent stops their worker in the middle of a finish, or counts as true."""
    nothing = dict.fromkeys(("removeOnComplete", "removeOnFail", "attempts", "backoff", "keepLogs", "deduplication"))
    parent_key = f"bull:{ours.keys.queue}-parents:parent"
    ours.raw.hset(parent_key, mapping={"name": "n", "data": "{}", "opts": "{}", "timestamp": "1"})
    link = {"id": "parent", "queue": parent_key.removesuffix(":parent")}
    flags = dict.fromkeys(("failParentOnFailure", "ignoreDependencyOnFailure", "removeDependencyOnFailure"))
    inner = {"removeOnComplete": {"count": 3, "age": None}, "deduplication": {"id": "d", "ttl": None, "extend": None}}
    added = [
        await ours.add("echo", {"n": 1}, **nothing),
        await ours.add("fail", {"message": "no"}, **nothing),
        await ours.add("echo", {"n": 2}, **inner),
        await ours.add("fail", {"message": "no"}, **nothing, **flags, parent=link),
    ]
    for job_id in added:
        stored = ours.hash(job_id)
        assert "null" not in stored["opts"] + stored.get("parent", "")
    await peer.worker()
    for job_id, state in zip(added, ("completed", "failed", "completed", "failed"), strict=True):
        await peer.until_state(job_id, state)
    # Had a flag been null, the child's failure had ended its parent too, or freed it.
    assert ours.raw.smembers(parent_key + ":dependencies") == {ours.keys.job(added[-1])}


@pytest.mark.wire(14)
async def test_what_is_no_json_reaches_none_of_their_listeners(
    peer: Peer, ours: EngineQueue, redis_url: str, queue_name: str
) -> None:
    """One unreadable entry would end a listener of theirs for good; ours refuses it, and the job says why."""
    listener = await peer.listener()
    async with Queue(queue_name, url=redis_url) as queue:

        @queue.task
        async def returns_nan() -> float:
            return float("nan")

        @queue.task
        async def tells_infinity(*, job: Job = Job.current()) -> None:
            await job.progress({"done": float("inf")})

        @queue.task
        async def works() -> str:
            return "fine"

        with pytest.raises(errors.InvalidPayloadError, match=r"data\.a: is nan"):
            await queue.add("works", {"a": float("nan")})
        first, second, third = await returns_nan.enqueue(), await tells_infinity.enqueue(), await works.enqueue()
        async with worker_inside.running(queue):
            assert await peer.finished(listener, third.id) == "fine"
        assert (await first.job()).failed_reason == "return value: is nan, which JSON does not have"
        assert (await second.job()).failed_reason == "progress.done: is inf, which JSON does not have"
    told = await listener.events_until("completed")
    assert {event["event"] for event in told} >= {"failed", "completed"}
