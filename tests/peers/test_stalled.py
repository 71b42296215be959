"""One side vanishes, the other finds its jobs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril.engine.maintenance import recover_stalled
from toril.engine.worker import Finish

TOO_OFTEN = "job stalled more than allowable limit"
LOCK_MS = 4000
"""Longer than a machine stands still."""


async def recover(ours: EngineQueue, *, max_stalled_count: int = 1) -> list[str]:
    """Make checks of ours until one gives jobs back."""

    async def check() -> list[str]:
        return await recover_stalled.run_once(
            ours.connection, ours.keys, max_stalled_count=max_stalled_count, interval_ms=50
        )

    return await wait_until_async(check, "a check that finds a stalled job")


@pytest.mark.wire(39)
async def test_they_are_killed_and_we_go_on(mortal_peer: Peer, ours: EngineQueue) -> None:
    job_id = await mortal_peer.queue.add("gate", {"gate": "never"})
    # It makes no check itself, and so takes nothing from itself when it stands still for longer than its lock lasts.
    worker = await mortal_peer.worker(lockDuration=600, skipStalledCheck=True, name="node-1")
    await worker.runs_until(1)
    mortal_peer.node.kill()
    await ours.add(jobId="behind")
    assert await recover(ours) == [job_id]
    job = await ours.take_one()
    assert (job.stalled_count, job.attempts_started, job.attempts_made) == (1, 2, 0)
    await ours.finish(Finish.completed(job, '"done"'))
    told = [event for event in ours.events() if event.get("jobId") == job_id]
    assert [event["event"] for event in told] == [
        "added", "waiting", "active", "waiting", "stalled", "active", "completed",
    ]  # fmt: skip
    assert told[3] == {"event": "waiting", "jobId": job_id, "prev": "active"}


@pytest.mark.wire(23, 38)
async def test_we_vanish_and_they_go_on(peer: Peer, ours: EngineQueue) -> None:
    listener = await peer.listener()
    job_id = await peer.queue.add("echo", {"n": 1})
    (job,) = (await ours.worker("pod-1", lock_ms=200).take(1, "pod-1:1")).jobs
    worker = await peer.worker(stalledInterval=150)
    assert await peer.finished(listener, job_id) == {"n": 1}
    assert [run["id"] for run in await worker.runs()] == [job_id]
    end = await peer.queue.job(job_id)
    assert (end["stalledCounter"], end["attemptsMade"]) == (1, 1)
    # Our late answer is refused and changes nothing.
    assert (await ours.active.finish_and_take([Finish.completed(job, '"late"')], 0, "t")).codes == [-2]
    assert (await peer.queue.job(job_id))["returnvalue"] == {"n": 1}


@pytest.mark.wire(41)
async def test_our_verdict_on_a_job_that_stalls_too_often_is_carried_out_by_them(peer: Peer, ours: EngineQueue) -> None:
    job_id = await peer.queue.add("echo", {}, attempts=5)
    await ours.worker("pod-1", lock_ms=20).take(1, "pod-1:1")
    assert await recover(ours, max_stalled_count=0) == [job_id]
    assert ours.hash(job_id)["defa"] == TOO_OFTEN
    worker = await peer.worker()
    await peer.until_state(job_id, "failed")
    assert await worker.runs() == []
    assert (await peer.queue.job(job_id))["failedReason"] == TOO_OFTEN
    assert "defa" not in ours.hash(job_id)


@pytest.mark.wire(40)
async def test_their_verdict_on_a_job_that_stalls_too_often_reaches_us(peer: Peer, ours: EngineQueue) -> None:
    """The job comes with the text to fail it with."""
    listener = await peer.listener()
    job_id = await peer.queue.add("echo", {}, attempts=5)
    await ours.worker("pod-1", lock_ms=20).take(1, "pod-1:1")
    worker = await peer.worker(autorun=False, stalledInterval=50, maxStalledCount=0)
    await worker.call("startStalledCheckTimer")
    await peer.until_state(job_id, "waiting")
    job = await ours.take_one()
    assert job.deferred_failure == TOO_OFTEN
    await ours.finish(Finish.failed(job, job.deferred_failure, "[]", attempts=5))
    with pytest.raises(Exception, match=f"^{TOO_OFTEN}$"):
        await peer.finished(listener, job_id)
    assert "defa" not in ours.hash(job_id)


@pytest.mark.wire(37)
async def test_a_renewed_lock_is_respected_by_their_checks(peer: Peer, ours: EngineQueue) -> None:
    """Many of their checks for longer than a lock lasts, and none that takes our job away."""
    job_id = await peer.queue.add("echo", {})
    active = ours.worker("pod-1", lock_ms=LOCK_MS)
    jobs = (await active.take(1, "pod-1:1")).jobs
    began = time.monotonic()
    worker = await peer.worker(stalledInterval=200)
    checks: set[str] = set()

    async def renew_until_checked() -> bool:
        assert await active.extend_locks(jobs) == set()
        checks.add(ours.raw.get(ours.keys.stalled_check) or "")
        return len(checks - {""}) >= 8 and time.monotonic() - began > 1.2 * LOCK_MS / 1000

    await wait_until_async(renew_until_checked, "eight checks")
    await ours.finish(Finish.completed(jobs[0], '"ours"'))
    assert await worker.runs() == []
    assert (await peer.queue.job(job_id))["returnvalue"] == "ours"
    assert "stalled" not in ours.event_names()


@pytest.mark.wire(42)
async def test_one_check_an_interval_whoever_makes_it(peer: Peer, ours: EngineQueue) -> None:
    await peer.worker(stalledInterval=60_000)
    check = await wait_until_async(_check(ours), "their check")
    await peer.queue.add("echo", {})
    ours.raw.lpush(ours.keys.active, "1")
    assert await recover_stalled.run_once(ours.connection, ours.keys, interval_ms=50) == []
    assert ours.raw.get(ours.keys.stalled_check) == check
    assert not ours.raw.exists(ours.keys.stalled)

    ours.raw.delete(ours.keys.stalled_check)
    await recover_stalled.run_once(ours.connection, ours.keys, interval_ms=60_000)
    check = ours.raw.get(ours.keys.stalled_check)
    ours.raw.srem(ours.keys.stalled, "1")
    checker = await peer.worker(autorun=False)
    await checker.call("moveStalledJobsToWait")
    assert ours.raw.get(ours.keys.stalled_check) == check
    assert not ours.raw.exists(ours.keys.stalled)


def _check(ours: EngineQueue) -> Any:
    async def probe() -> str | None:
        value: str | None = ours.raw.get(ours.keys.stalled_check)
        return value

    return probe
