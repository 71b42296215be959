"""Both sides see the same queue: counts, states, lists, at every step of its jobs."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from toril.engine.worker import Finish
from toril.jobs.job import JobState

STATES = ("waiting", "active", "delayed", "prioritized", "completed", "failed")


async def assert_agreement(peer: Peer, ours: EngineQueue) -> dict[str, int]:
    """Counts, and each job's state, place and fields, as both sides tell them. Returns the counts."""
    mine = await ours.inspector.counts()
    theirs = await peer.queue.call("getJobCounts")
    theirs["waiting"] += theirs.pop("paused", 0)
    assert mine == theirs
    for state in STATES:
        # BullMQ's lists begin with the newest; `asc` turns lists and sets to oldest first.
        listed = await peer.queue.call("getJobs", [state, *(["paused"] if state == "waiting" else [])], 0, -1, True)
        jobs = await ours.inspector.jobs(JobState(state))
        assert [job.id for job in jobs] == [job["id"] for job in listed]
        for job, their in zip(jobs, listed, strict=True):
            assert await ours.inspector.state(job.id) == await peer.queue.job(job.id, "getState") == state
            assert await peer.queue.job(job.id, "isCompleted") is (state == "completed")
            assert await peer.queue.job(job.id, "isFailed") is (state == "failed")
            assert _fields(job) == {name: their.get(name) for name in _fields(job)}
    return mine


def _fields(job: Any) -> dict[str, Any]:
    return {
        "name": job.name,
        "data": job.data,
        "opts": job.opts,
        "timestamp": job.timestamp_ms,
        "delay": job.delay_ms,
        "priority": job.priority,
        "attemptsMade": job.attempts_made,
        "attemptsStarted": job.attempts_started,
        "processedOn": job.processed_on_ms,
        "finishedOn": job.finished_on_ms,
        "failedReason": job.failed_reason,
        "returnvalue": job.return_value,
        "progress": job.progress,
        "stacktrace": list(job.stacktrace),
    }


@pytest.mark.requirement("Z-24", "Z-40")
@pytest.mark.wire(95)
async def test_both_sides_see_the_same_throughout(peer: Peer, ours: EngineQueue) -> None:
    assert sum((await assert_agreement(peer, ours)).values()) == 0
    for number in range(3):
        await ours.add("echo", {"n": number}, jobId=f"ours-{number}", attempts=2)
        await peer.queue.add("echo", {"n": number}, jobId=f"theirs-{number}", attempts=2)
    await ours.add("echo", delay=60_000, jobId="later")
    await peer.queue.add("echo", {}, delay=30_000, jobId="soon", keepLogs=3, backoff=50)
    await ours.add("echo", priority=2, jobId="second")
    await peer.queue.add("echo", {}, priority=1, jobId="first")
    assert await assert_agreement(peer, ours) == {
        "waiting": 6, "active": 0, "delayed": 2, "prioritized": 2, "waiting-children": 0, "completed": 0, "failed": 0,
    }  # fmt: skip

    jobs = await ours.take(5)
    await assert_agreement(peer, ours)
    await ours.active.progress(jobs[0].id, '{"half":true}')
    await ours.finish(Finish.completed(jobs[0], '{"a":[1,null]}'), Finish.retry(jobs[1], "once", '["t"]', 60_000))
    await assert_agreement(peer, ours)
    await ours.finish(Finish.failed(jobs[2], "for good", '["t"]', attempts=2), Finish.requeue(jobs[3]))
    await assert_agreement(peer, ours)
    await ours.producer.pause()
    await peer.queue.add("echo", {}, jobId="parked")
    await assert_agreement(peer, ours)
    await ours.producer.resume()
    await ours.finish(Finish.retry(jobs[4], "again", '["t"]', 0))
    assert await assert_agreement(peer, ours) == {
        "waiting": 4, "active": 0, "delayed": 3, "prioritized": 2, "waiting-children": 0, "completed": 1, "failed": 1,
    }  # fmt: skip


async def test_their_removals_are_seen(peer: Peer, ours: EngineQueue) -> None:
    for number in range(3):
        await ours.add("echo", jobId=f"a-{number}")
    (job,) = await ours.take()
    await ours.active.log(job.id, "row")
    await ours.finish(Finish.completed(job, "1"))
    await peer.queue.job(job.id, "remove")
    assert ours.raw.keys(ours.keys.job(job.id) + "*") == []
    assert await ours.inspector.job(job.id) is None
    assert await ours.inspector.state(job.id) == JobState.UNKNOWN
    await peer.queue.call("drain")
    assert sum((await assert_agreement(peer, ours)).values()) == 0
    await ours.add("echo")
    await peer.queue.call("obliterate", {"force": True})
    assert ours.raw.keys(ours.keys.base + "*") == []


async def test_a_job_that_they_remove_while_we_run_it(peer: Peer, ours: EngineQueue) -> None:
    """Obliterated under our hands: our finish is refused and leaves no phantom behind."""
    await ours.add("echo")
    job = await ours.take_one()
    await peer.queue.call("obliterate", {"force": True})
    assert (await ours.active.finish_and_take([Finish.completed(job, "1")], 0, "t")).codes == [-1]
    assert await ours.active.extend_locks([job]) == {job.id}
    assert set(ours.raw.keys(ours.keys.base + "*")) <= {ours.keys.meta, ours.keys.events}
