"""Jobs that fail in one fleet and are tried again in the other."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer, PeerError
from toril import errors
from toril.engine.worker import Finish, TakenJob
from toril.worker import outcomes

BACKOFF = {"type": "exponential", "delay": 60_000}
"""Long enough that only `promote` brings a job back."""


def fail(job: TakenJob, problem: Exception) -> Finish:
    """As our worker decides it, without jitter."""
    return outcomes.failed(job, problem, outcomes.RuleBook().of(job), lambda: 0.0)


@pytest.mark.requirement("Z-17", "Z-18", "Z-26", "Z-27", "Z-28")
@pytest.mark.wire(30, 32, 53)
async def test_failed_by_them_then_by_us_then_completed_by_them(peer: Peer, ours: EngineQueue) -> None:
    job_id = await peer.queue.add("failTimes", {"times": 2, "message": "theirs"}, attempts=3, backoff=BACKOFF)
    worker = await peer.worker()
    first = await peer.until_state(job_id, "delayed")
    await worker.close()
    assert (first["attemptsMade"], first["failedReason"], first["delay"]) == (1, "theirs 1", 60_000)
    await peer.queue.job(job_id, "promote")

    job = await ours.take_one()
    assert (job.attempts_made, job.attempts_started, len(job.stacktrace)) == (1, 2, 1)
    await ours.finish(fail(job, ValueError("ours")))
    second = await peer.until_state(job_id, "delayed")
    assert (second["attemptsMade"], second["failedReason"], second["delay"]) == (2, "ours", 120_000)
    assert "theirs 1" in second["stacktrace"][0]
    assert "ValueError: ours" in second["stacktrace"][1]
    await peer.queue.job(job_id, "promote")

    await peer.worker()
    last = await peer.until_state(job_id, "completed")
    assert (last["attemptsMade"], last["returnvalue"], len(last["stacktrace"])) == (3, "recovered", 2)
    # A failure's text stays, as a completion does not touch it.
    assert last["failedReason"] == "ours"


@pytest.mark.wire(32)
async def test_failed_by_us_then_for_good_by_them(peer: Peer, ours: EngineQueue) -> None:
    job_id = await ours.add("fail", {"message": "theirs"}, attempts=2, backoff=BACKOFF)
    await ours.finish(fail(await ours.take_one(), ValueError("ours")))
    await peer.queue.job(job_id, "promote")
    await peer.worker()
    end = await peer.until_state(job_id, "failed")
    assert (end["attemptsMade"], end["failedReason"], len(end["stacktrace"])) == (2, "theirs", 2)
    job = await ours.inspector.job(job_id)
    assert job is not None
    assert (job.attempts_made, job.failed_reason, len(job.stacktrace)) == (2, "theirs", 2)
    names = [event["event"] for event in ours.events() if event.get("jobId") == job_id]
    assert names == [
        "added", "waiting", "active", "delayed", "waiting", "active", "failed", "retries-exhausted",
    ]  # fmt: skip


@pytest.mark.wire(32)
async def test_the_limit_of_stack_traces_holds_across_fleets(peer: Peer, ours: EngineQueue) -> None:
    job_id = await peer.queue.add("fail", {"message": "theirs"}, attempts=3, stackTraceLimit=1)
    await ours.finish(fail(await ours.take_one(), ValueError("ours")))
    assert len((await peer.queue.job(job_id))["stacktrace"]) == 1
    await peer.worker()
    end = await peer.until_state(job_id, "failed")
    assert len(end["stacktrace"]) == 1
    assert "theirs" in end["stacktrace"][0]


@pytest.mark.wire(31)
async def test_without_backoff_a_retry_joins_the_end_of_the_line(peer: Peer, ours: EngineQueue) -> None:
    """The same order whoever fails the job."""
    for job_id in ("again", "other"):
        await ours.add("failTimes", {"times": 1, "message": "x"}, jobId=job_id, attempts=2)
    worker = await peer.worker()
    await peer.until_state("again", "completed")
    await peer.until_state("other", "completed")
    await worker.close()
    theirs = [(run["id"], run["attemptsMade"]) for run in await worker.runs()]

    for job_id in ("again-2", "other-2"):
        await peer.queue.add("echo", jobId=job_id, attempts=2)
    mine = []
    (job,) = await ours.take()
    while True:
        mine.append((job.id.removesuffix("-2"), job.attempts_made))
        end = fail(job, ValueError("x")) if job.attempts_made == 0 else Finish.completed(job, "1")
        taken = await ours.finish(end, take=1)
        if not taken:
            break
        (job,) = taken
    assert mine == theirs == [("again", 0), ("other", 0), ("again", 1), ("other", 1)]


@pytest.mark.wire(34)
async def test_a_bare_number_as_backoff_is_honoured(peer: Peer, ours: EngineQueue) -> None:
    """As BullMQ's schedulers store it."""
    job_id = await peer.queue.add("fail", {"message": "x"}, attempts=2)
    stored = json.loads(ours.hash(job_id)["opts"])
    ours.raw.hset(ours.keys.job(job_id), "opts", json.dumps({**stored, "backoff": 700}))
    await ours.finish(fail(await ours.take_one(), ValueError("x")))
    assert (await peer.until_state(job_id, "delayed"))["delay"] == 700


@pytest.mark.requirement("Z-29")
@pytest.mark.wire(33)
async def test_unrecoverable_with_us(peer: Peer, ours: EngineQueue) -> None:
    events = await peer.listener()
    job_id = await peer.queue.add("image-upload", {"image": None}, attempts=3, backoff=BACKOFF)
    await ours.finish(fail(await ours.take_one(), errors.UnrecoverableError("image: is missing")))
    with pytest.raises(PeerError, match=r"^image: is missing$"):
        await peer.finished(events, job_id)
    end = await peer.queue.job(job_id)
    assert (end["attemptsMade"], end["failedReason"]) == (1, "image: is missing")
    assert "retries-exhausted" not in ours.event_names()


@pytest.mark.requirement("Z-29")
@pytest.mark.wire(33)
async def test_unrecoverable_with_them(peer: Peer, ours: EngineQueue) -> None:
    job_id = await ours.add("unrecoverable", {"message": "bad data"}, attempts=3, backoff=BACKOFF)
    await peer.worker()
    await peer.until_state(job_id, "failed")
    job = await ours.inspector.job(job_id)
    assert job is not None
    assert (job.attempts_made, job.failed_reason) == (1, "bad data")
    assert "retries-exhausted" not in ours.event_names()


@pytest.mark.parametrize("outcome", ["failed", "completed"])
async def test_they_retry_what_we_ended(peer: Peer, ours: EngineQueue, outcome: str) -> None:
    job_id = await ours.add("echo", {"n": 1})
    job = await ours.take_one()
    await ours.finish(Finish.completed(job, "0") if outcome == "completed" else fail(job, ValueError("x")))
    await peer.queue.job(job_id, "retry", outcome)
    assert await ours.inspector.state(job_id) == "waiting"
    await peer.worker()
    end = await peer.until_state(job_id, "completed")
    assert (end["attemptsMade"], end["returnvalue"]) == (2, {"n": 1})


@pytest.mark.wire(29, 30, 32)
@pytest.mark.requirement("Z-26", "X-04")
async def test_three_retries_are_four_attempts_by_turns(peer: Peer, ours: EngineQueue) -> None:
    """5, 10 and 20 s; the pauses are cut short by `promote`."""
    backoff = {"type": "exponential", "delay": 5000}
    job_id = await peer.queue.add("fail", {"message": "no"}, attempts=4, backoff=backoff)
    # By hand: a worker that runs by itself would take the job again once the pause is over.
    worker = await peer.worker(autorun=False)
    for attempt in (1, 2, 3, 4):
        if attempt % 2:
            await worker.call("getNextJob", "t")
            await peer.node.request("failJob", handle=peer.queue.number, jobId=job_id, message="no", token="t")
        else:
            await ours.finish(fail(await ours.take_one(), ValueError("no")))
        stored = ours.hash(job_id)
        assert (stored["atm"], len(json.loads(stored["stacktrace"]))) == (str(attempt), attempt)
        if attempt < 4:
            assert stored["delay"] == str(5000 * 2 ** (attempt - 1))
            (due_ms,) = [float(score) / 4096 for _, score in ours.raw.zrange(ours.keys.delayed, 0, -1, withscores=True)]
            assert 0 <= due_ms - float(stored["processedOn"]) - 5000 * 2 ** (attempt - 1) < 30_000
            await peer.queue.job(job_id, "promote")
    assert await peer.queue.job(job_id, "getState") == "failed"
    assert ours.event_names()[-3:] == ["failed", "retries-exhausted", "drained"]


@pytest.mark.wire(31)
async def test_jobs_that_are_due_go_before_one_that_is_retried_at_once(peer: Peer, ours: EngineQueue) -> None:
    """The order of the line after an immediate retry is the same, whoever worked the job."""

    async def line_after(retry: Callable[[], Awaitable[None]]) -> list[str]:
        await retry()
        line = ours.places().get("wait", [])
        ours.raw.flushdb()
        return line

    async def set_up() -> None:
        await peer.queue.add("fail", {"message": "no"}, attempts=2, jobId="retried")

    async def put_due() -> None:
        # Due already, and not promoted yet: it was added while the job was running.
        await peer.queue.add("echo", {}, jobId="due", delay=1, timestamp=1000)
        await peer.queue.add("echo", {}, jobId="waiting")

    async def by_them() -> None:
        await set_up()
        worker = await peer.worker(autorun=False)
        await worker.call("getNextJob", "t")
        await put_due()
        await peer.node.request("failJob", handle=peer.queue.number, jobId="retried", message="no", token="t")

    async def by_us() -> None:
        await set_up()
        job = await ours.take_one()
        await put_due()
        await ours.finish(fail(job, ValueError("no")))

    theirs = await line_after(by_them)
    assert await line_after(by_us) == theirs == ["waiting", "due", "retried"]
