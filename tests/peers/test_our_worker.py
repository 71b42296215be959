"""BullMQ adds and watches, worker processes of ours run the jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import workers
from support.engine import EngineQueue
from support.node_peer import FINISH_MS, Handle, Peer, PeerError
from support.waiting import wait_until_async
from toril import clock

JOBS = Path(__file__).with_name("our_jobs.py")
NO_POLL = {"drainDelay": 60, "stalledInterval": 60_000}
"""Such a worker looks again only when something wakes it."""
TOO_OFTEN = "job stalled more than allowable limit"

Start = Callable[..., workers.WorkerProcess]


@pytest.fixture
def start(redis_url: str, queue_name: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker of ours on the queue; several share one trace."""
    started: list[workers.WorkerProcess] = []

    def begin(**how: Any) -> workers.WorkerProcess:
        worker = workers.spawn(redis_url, queue_name, JOBS, folder=tmp_path, **how)
        started.append(worker)
        worker.wait_ready()
        return worker

    yield begin
    for worker in started:
        worker.close()


async def rejected(peer: Peer, events: Handle, job_id: str) -> str:
    """What `waitUntilFinished` rejects with."""
    with pytest.raises(PeerError) as caught:
        await peer.finished(events, job_id)
    return str(caught.value)


async def traced(worker: workers.WorkerProcess, count: int) -> list[str]:
    async def probe() -> list[str]:
        return worker.trace if len(worker.trace) >= count else []

    return await wait_until_async(probe, f"{count} jobs started by our worker")


@pytest.mark.requirement("Z-17", "Z-21", "Z-22", "Z-24", "Z-25", "Z-29")
@pytest.mark.wire(15, 16, 17, 31, 33, 96)
async def test_results_failures_progress_and_logs(peer: Peer, start: Start) -> None:
    worker = start(concurrency=4)
    events = await peer.listener()
    values = [None, 0, False, "", "ünï 🎉", [1, [None]], {"a": {"b": 1.5}}]
    bulk = await peer.queue.call("addBulk", [{"name": "echo", "data": {"value": value}} for value in values])
    for job, value in zip(bulk, values, strict=True):
        assert await peer.finished(events, job["id"]) == {"value": value}
    nothing = await peer.queue.add("nothing", {})
    assert await peer.finished(events, nothing) is None

    plain = await peer.queue.add("fail", {"message": "no: ünï"})
    assert await rejected(peer, events, plain) == "no: ünï"
    end = await peer.queue.job(plain)
    assert (end["failedReason"], end["attemptsMade"], len(end["stacktrace"])) == ("no: ünï", 1, 1)
    assert "ValueError: no: ünï" in end["stacktrace"][0]
    invalid = await peer.queue.add("unrecoverable", {"message": "image: is missing"}, attempts=3)
    assert await rejected(peer, events, invalid) == "image: is missing"
    assert (await peer.queue.job(invalid))["attemptsMade"] == 1
    again = await peer.queue.add("failTimes", {"times": 2, "message": "no"}, attempts=3)
    assert await peer.finished(events, again) == "recovered"
    end = await peer.queue.job(again)
    assert (end["attemptsMade"], end["attemptsStarted"], end["failedReason"]) == (3, 3, "no 2")
    assert [trace.strip().splitlines()[-1] for trace in end["stacktrace"]] == ["ValueError: no 1", "ValueError: no 2"]

    data = {"progress": {"done": 2}, "rows": ["a", "b", "c"], "value": [1]}
    told = await peer.queue.add("report", data, keepLogs=2)
    assert await peer.finished(events, told) == [1]
    end = await peer.queue.job(told)
    assert (end["progress"], end["processedBy"]) == ({"done": 2}, f"worker-{worker.port}")
    assert await peer.queue.call("getJobLogs", told) == {"logs": ["b", "c"], "count": 2}
    progress = [event["data"] for event in await events.events() if event["event"] == "progress"]
    assert progress == [{"done": 2}]
    counts = await peer.queue.call("getJobCounts", "completed", "failed", "active", "waiting", "delayed")
    assert (counts["completed"], counts["failed"]) == (10, 2)


@pytest.mark.requirement("Z-18", "Z-26")
@pytest.mark.wire(20, 30)
async def test_backoff_and_the_order_of_events(peer: Peer, start: Start) -> None:
    events = await peer.listener()
    options = {"attempts": 3, "backoff": {"type": "exponential", "delay": 150}}
    job_id = await peer.queue.add("fail", {"message": "no"}, **options)
    start()
    assert await rejected(peer, events, job_id) == "no"
    told = await events.events_until("drained")
    assert [event["event"] for event in told] == [
        "added", "waiting", "active", "delayed", "waiting", "active", "delayed", "waiting", "active", "failed",
        "retries-exhausted", "drained",
    ]  # fmt: skip
    assert told[4]["prev"] == "delayed"
    assert int(told[10]["attemptsMade"]) == 3
    delays = [event["delay"] for event in told if event["event"] == "delayed"]
    # Due times: the second attempt fails after the first was due, and its own delay is twice as long.
    assert delays[1] - delays[0] >= 300


@pytest.mark.wire(5, 26, 27)
async def test_a_blocked_worker_wakes_at_once_and_when_a_job_is_due(peer: Peer, start: Start) -> None:
    events = await peer.listener()
    worker = start(options=NO_POLL)
    first = await peer.queue.add("echo", {})
    await peer.finished(events, first)
    now_ms = clock.now_ms()
    soon = await peer.queue.add("echo", {})
    await peer.finished(events, soon)
    assert (await peer.queue.job(soon))["processedOn"] - now_ms < 30_000
    later, sooner = await peer.queue.add("echo", {}, delay=3_600_000), await peer.queue.add("echo", {}, delay=400)
    await peer.finished(events, sooner)
    job = await peer.queue.job(sooner)
    assert 0 <= job["processedOn"] - job["timestamp"] - 400 < 30_000
    assert worker.trace == [first, soon, sooner]
    assert await peer.queue.job(later, "getState") == "delayed"


@pytest.mark.requirement("Z-19", "Z-20")
@pytest.mark.wire(58, 59, 60)
async def test_order_custom_ids_and_retention(peer: Peer, start: Start, ours: EngineQueue) -> None:
    """The job's own policy goes before the worker's."""
    jobs: list[tuple[str, dict[str, Any]]] = [
        ("low", {"priority": 5}),
        ("high", {"priority": 1, "removeOnComplete": False}),
        ("first", {"removeOnComplete": True}),
        ("second", {}),
        ("due", {"delay": 1, "timestamp": 1000}),
        ("pushed-in", {"lifo": True}),
    ]
    bulk = [{"name": "echo", "data": {}, "opts": {"jobId": job_id, **options}} for job_id, options in jobs]
    await peer.queue.call("addBulk", [*bulk, {"name": "fail", "data": {"message": "x"}, "opts": {"jobId": "bad"}}])
    events = await peer.listener()
    worker = start(options={"removeOnComplete": {"count": 2}, "removeOnFail": True})
    assert await traced(worker, 7) == ["pushed-in", "first", "second", "bad", "due", "high", "low"]
    await events.events_until("drained")
    assert ours.places() == {"completed": ["high", "low"]}
    assert {key for key in ours.raw.keys(ours.keys.base + "*") if key.count(":") == 2} & {
        ours.keys.job(job_id) for job_id in ("bad", "first", "second", "due", "pushed-in")
    } == set()
    # Who waits must be listening before the job is gone.
    await peer.queue.call("pause")
    waiting = peer.node.send(
        "addAndWait",
        handle=peer.queue.number,
        events=events.number,
        args=["echo", {"n": 1}, {"removeOnComplete": True}],
        ttl=FINISH_MS,
    )
    await peer.settle()
    await peer.queue.call("resume")
    assert await asyncio.wrap_future(waiting) == {"n": 1}


@pytest.mark.requirement("Z-34")
@pytest.mark.wire(97)
async def test_workers_by_name(peer: Peer, start: Start) -> None:
    """`getWorkers` lists both fleets, and ours are gone when they have ended."""
    worker = start()
    await peer.worker(name="node-1")

    async def names() -> set[str]:
        return {found["rawname"].rpartition(":w:")[2] for found in await peer.queue.call("getWorkers")}

    async def both() -> bool:
        return await names() == {"node-1", f"worker-{worker.port}"}

    async def theirs() -> bool:
        # Redis hears a moment later that a connection was closed.
        return await names() == {"node-1"}

    await wait_until_async(both, "both workers to be listed")
    assert worker.stop() == 0
    await wait_until_async(theirs, "ours to be gone")


@pytest.mark.wire(44)
async def test_they_pause_and_resume(peer: Peer, start: Start, ours: EngineQueue) -> None:
    events = await peer.listener()
    worker = start(options=NO_POLL)
    before = await peer.queue.add("sleep", {"ms": 300})
    await traced(worker, 1)
    await peer.queue.call("pause")
    waiting = [await peer.queue.add("echo", {}), await ours.add("echo")]
    # The running job ends, and its worker, which then looks for more, finds the queue paused.
    assert await peer.finished(events, before) == "slept"
    counts = await ours.inspector.counts()
    assert (counts["waiting"], counts["active"]) == (2, 0)
    seconds, microseconds = ours.raw.time()
    resumed_ms = int(seconds) * 1000 + int(microseconds) // 1000
    await peer.queue.call("resume")
    for job_id in waiting:
        await peer.finished(events, job_id)
        assert (await peer.queue.job(job_id))["processedOn"] >= resumed_ms
    assert worker.trace == [before, *waiting]


@pytest.mark.requirement("T108")
@pytest.mark.wire(38)
async def test_ours_is_killed_and_theirs_goes_on(peer: Peer, start: Start, ours: EngineQueue) -> None:
    events = await peer.listener()
    worker = start(options={"lockDuration": 700, **NO_POLL})
    job_id = await peer.queue.add("hang", {"n": 1})
    await traced(worker, 1)
    worker.kill()
    # It may have made its own check, which would keep others from one for a minute.
    ours.raw.delete(ours.keys.stalled_check)
    theirs = await peer.worker(stalledInterval=150)
    assert await peer.finished(events, job_id) == {"n": 1}
    job = await peer.queue.job(job_id)
    assert (job["stalledCounter"], job["attemptsMade"], job["attemptsStarted"]) == (1, 1, 2)
    assert [run["id"] for run in await theirs.runs()] == [job_id]


@pytest.mark.requirement("T108")
@pytest.mark.wire(39)
async def test_theirs_is_killed_and_ours_goes_on(mortal_peer: Peer, start: Start, ours: EngineQueue) -> None:
    job_id = await mortal_peer.queue.add("gate", {"gate": "never"})
    theirs = await mortal_peer.worker(lockDuration=700, skipStalledCheck=True)
    await theirs.runs_until(1)
    mortal_peer.node.kill()
    worker = start(options={"stalledInterval": 150})
    assert await traced(worker, 1) == [job_id]

    async def is_completed() -> bool:
        return await ours.inspector.state(job_id) == "completed"

    await wait_until_async(is_completed, "our worker to complete their job")
    job = await ours.inspector.job(job_id)
    assert job is not None
    assert (job.stalled_count, job.attempts_made) == (1, 1)


@pytest.mark.wire(40)
async def test_a_job_that_stalled_too_often_is_not_run(peer: Peer, start: Start, ours: EngineQueue) -> None:
    events = await peer.listener()
    job_id = await peer.queue.add("echo", {}, attempts=5)
    await ours.worker("gone", lock_ms=20).take(1, "gone:1")
    checker = await peer.worker(autorun=False, stalledInterval=50, maxStalledCount=0)
    await checker.call("startStalledCheckTimer")
    await events.events_until("stalled")
    await checker.close()
    worker = start()
    assert await rejected(peer, events, job_id) == TOO_OFTEN
    assert worker.trace == []
    assert (await peer.queue.job(job_id))["attemptsMade"] == 1


@pytest.mark.wire(37)
async def test_a_long_job_is_kept_from_their_checks(peer: Peer, start: Start, ours: EngineQueue) -> None:
    """Longer than a lock lasts, which is renewed in time though everything stood still for two seconds."""
    events = await peer.listener()
    worker = start(options={"lockDuration": 6000, "lockRenewTime": 1500, "stalledInterval": 150})
    job_id = await peer.queue.add("sleep", {"ms": 7000})
    await traced(worker, 1)
    theirs = await peer.worker(stalledInterval=150)
    assert await peer.finished(events, job_id) == "slept"
    assert worker.trace == [job_id]
    assert await theirs.runs() == []
    assert "stalled" not in ours.event_names()


@pytest.mark.requirement("Z-24", "T20", "T108")
@pytest.mark.wire(21)
async def test_two_fleets_on_one_queue(peer: Peer, start: Start, ours: EngineQueue) -> None:
    """Two thousand jobs of two producers, two workers; each job is run once, and all are counted."""
    start(concurrency=20)
    worker = start(concurrency=20)
    theirs = await peer.worker(concurrency=20)

    async def add_ours() -> list[str]:
        return [await ours.add("echo", {"index": index}) for index in range(1000)]

    async def add_theirs() -> list[str]:
        added: list[str] = []
        for _ in range(10):
            added += await peer.node.request(
                "addMany", handle=peer.queue.number, name="echo", count=100, data={}, options={}
            )
        return added

    mine, their = await asyncio.gather(add_ours(), add_theirs())

    async def all_done() -> bool:
        counts = await ours.inspector.counts()
        return counts["completed"] + counts["failed"] == 2000

    await wait_until_async(all_done, "2000 jobs to end", timeout_seconds=60)
    runs = [*worker.trace, *(run["id"] for run in await theirs.runs())]
    assert len(worker.trace) > 0 < len(await theirs.runs())
    assert sorted(runs) == sorted([*mine, *their])
    counts = await peer.queue.call("getJobCounts", "completed", "failed", "active", "waiting", "delayed")
    assert counts["completed"] == sum(counts.values()) == 2000
    assert ours.event_names().count("completed") == 2000
    assert not ours.raw.keys(ours.keys.base + "*:lock")


@pytest.mark.requirement("Z-24")
async def test_two_fleets_and_a_death_in_each(peer: Peer, mortal_peer: Peer, start: Start, ours: EngineQueue) -> None:
    """Nothing is lost when one worker of each side is killed in the middle, and each job ends once."""
    checks = {"stalledInterval": 300, "maxStalledCount": 5}
    # The locks of those that stay alive outlast any pause: BullMQ tells of each that it loses.
    brief = {**checks, "lockDuration": 1500}
    doomed, worker = start(concurrency=10, options=brief), start(concurrency=10, options=checks)
    await mortal_peer.worker(concurrency=10, **brief)
    theirs = await peer.worker(concurrency=10, **checks)
    ids = []
    for _ in range(4):
        ids += await peer.node.request(
            "addMany", handle=peer.queue.number, name="sleep", count=100, data={"ms": 30}, options={"attempts": 2}
        )
        ids += [await ours.add("sleep", {"ms": 30}, attempts=2) for _ in range(100)]

    async def completed(count: int) -> bool:
        return (await ours.inspector.counts())["completed"] >= count

    await wait_until_async(lambda: completed(200), "200 jobs to complete", timeout_seconds=60)
    doomed.kill()
    mortal_peer.node.kill()
    await wait_until_async(lambda: completed(800), "800 jobs to complete", timeout_seconds=60)
    counts = await peer.queue.call("getJobCounts", "completed", "failed", "active", "waiting", "delayed")
    assert counts["completed"] == sum(counts.values()) == 800
    ended = [event["jobId"] for event in ours.events() if event["event"] == "completed"]
    assert sorted(ended) == sorted(ids)
    assert {*worker.trace, *(run["id"] for run in await theirs.runs())} <= {*ids}
    assert not ours.raw.keys(ours.keys.base + "*:lock")
