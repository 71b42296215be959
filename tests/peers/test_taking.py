"""What a job looks like while it is ours and after; refused ends; when the queue is said to have run empty."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import dumps, workers
from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril.engine.worker import Finish
from toril.jobs import codec

JOBS = Path(__file__).with_name("our_jobs.py")


@pytest.mark.wire(18, 19)
async def test_a_job_while_it_is_ours_and_after(peer: Peer, ours: EngineQueue) -> None:
    job_id = await peer.queue.add("echo", {})
    active = ours.worker("pod-1", lock_ms=30_000)
    (job,) = (await active.take(1, "pod-1:7")).jobs
    assert ours.places() == {"active": [job_id]}
    assert ours.raw.get(ours.keys.lock(job_id)) == "pod-1:7"
    assert 10_000 < ours.raw.pttl(ours.keys.lock(job_id)) <= 30_000
    assert await peer.queue.job(job_id, "isActive")
    held = await peer.queue.job(job_id)
    assert (held["attemptsStarted"], held["attemptsMade"], held["processedBy"]) == (1, 0, "pod-1")
    assert held["processedOn"] >= held["timestamp"]

    ours.raw.sadd(ours.keys.stalled, job_id)
    assert (await active.finish_and_take([Finish.completed(job, "1")], 0, "none")).codes == [0]
    assert ours.places() == {"completed": [job_id]}
    assert not ours.raw.exists(ours.keys.lock(job_id), ours.keys.stalled)
    end = await peer.queue.job(job_id)
    assert (end["attemptsStarted"], end["attemptsMade"]) == (1, 1)
    assert end["finishedOn"] == ours.raw.zscore(ours.keys.completed, job_id) >= end["processedOn"]


@pytest.mark.wire(22)
async def test_an_end_brings_the_next_job(peer: Peer, ours: EngineQueue) -> None:
    first, second = await peer.queue.add("echo", {}), await peer.queue.add("echo", {"n": 2})
    (job,) = (await ours.active.take(1, "pod-1:1")).jobs
    reply = await ours.active.finish_and_take([Finish.completed(job, "1")], 1, "pod-1:1")
    (following,) = reply.taken.jobs
    assert (job.id, following.id, following.data, following.token) == (first, second, {"n": 2}, "pod-1:1")
    assert ours.raw.get(ours.keys.lock(second)) == "pod-1:1"
    assert await peer.queue.job(first, "getState") == "completed"
    assert await peer.queue.job(second, "getState") == "active"


@pytest.mark.wire(23)
async def test_a_refused_end_writes_nothing(peer: Peer, ours: EngineQueue) -> None:
    for job_id in ("stolen", "unlocked", "gone", "elsewhere"):
        await peer.queue.add("echo", {}, jobId=job_id)
    jobs = await ours.take(4)
    ours.raw.set(ours.keys.lock("stolen"), "somebody:1")
    ours.raw.delete(ours.keys.lock("unlocked"), ours.keys.job("gone"))
    ours.raw.lrem(ours.keys.active, 0, "elsewhere")
    before = dumps.dump(ours)
    ends: list[Callable[..., Finish]] = [
        lambda job: Finish.completed(job, "1"),
        lambda job: Finish.failed(job, "x", "[]"),
        lambda job: Finish.retry(job, "x", "[]", 50),
        Finish.requeue,
    ]
    for end in ends:
        reply = await ours.active.finish_and_take([end(job) for job in jobs], 0, "none")
        assert reply.codes == [-6, -2, -1, -3]
        assert dumps.dump(ours) == before


async def test_what_was_given_back_unstarted_counts_as_never_started(peer: Peer, ours: EngineQueue) -> None:
    """A worker of theirs that runs no job a second time runs it, and not one that had begun."""
    for job_id in ("unstarted", "begun"):
        await peer.queue.add("echo", {"n": 1}, jobId=job_id)
    first, second = await ours.take(2)
    await ours.finish(Finish.requeue(first, has_started=False), Finish.requeue(second))
    await peer.worker(maxStartedAttempts=1)
    await peer.until_state("unstarted", "completed")
    await peer.until_state("begun", "failed")
    assert ours.hash("begun")["failedReason"] == "job started more than allowable limit"


@pytest.mark.wire(25)
@pytest.mark.parametrize("takes_on", [True, False], ids=["takes-on", "takes-no-more"])
@pytest.mark.parametrize("besides", ["nothing", "delayed", "waiting", "prioritized", "paused", "limited"])
async def test_when_the_queue_has_run_empty(peer: Peer, ours: EngineQueue, besides: str, takes_on: bool) -> None:
    """Their worker and our engine end the same job in the same queue; a worker that closes takes no more."""

    async def prepare(name: str) -> None:
        await peer.queue.add(name, {"gate": f"{besides}-{takes_on}"}, jobId="job")
        if besides == "limited":
            ours.raw.hset(ours.keys.meta, mapping={"max": 1, "duration": 60_000})

    async def besides_it() -> None:
        match besides:
            case "delayed":
                await peer.queue.add("nothing", {}, delay=60_000)
            case "waiting":
                await peer.queue.add("nothing", {})
            case "prioritized":
                await peer.queue.add("nothing", {}, priority=1)
            case "paused":
                await peer.queue.call("pause")

    await prepare("gate")
    worker = await peer.worker(drainDelay=60)
    await worker.runs_until(1)
    await besides_it()
    closing = None if takes_on else peer.node.send("close", handle=worker.number)
    await peer.settle()
    await peer.release(f"{besides}-{takes_on}")
    await peer.until_state("job", "completed")
    if closing:
        await wait_until_async(lambda: _done(closing), "their worker to close")
    elif besides in ("waiting", "prioritized"):
        await worker.runs_until(2)
    theirs = _drained_after(ours, "job")
    await worker.close()
    ours.raw.flushdb()

    await prepare("echo")
    job = await ours.take_one()
    await besides_it()
    await ours.finish(Finish.completed(job, "1"), take=int(takes_on))
    assert _drained_after(ours, "job") == theirs


async def _done(future: Any) -> bool:
    return bool(future.done())


def _drained_after(ours: EngineQueue, job_id: str) -> bool:
    """Whether `drained` was told with this job's end."""
    events = ours.events()
    end = next(index for index, event in enumerate(events) if event["event"] == "completed")
    assert events[end]["jobId"] == job_id
    return [event["event"] for event in events[end + 1 : end + 2]] == ["drained"]


@pytest.mark.wire(26)
async def test_an_idle_worker_asks_once_and_waits(
    peer: Peer, ours: EngineQueue, redis_url: str, queue_name: str, tmp_path: Path
) -> None:
    events = await peer.listener()

    def waits_ended() -> int:
        """None has ended on a new server."""
        return int(ours.raw.info("commandstats").get("cmdstat_bzpopmin", {"calls": 0})["calls"])

    with workers.start(redis_url, queue_name, JOBS, options={"drainDelay": 60}, folder=tmp_path):

        async def is_blocked() -> bool:
            here = [client["cmd"] for client in ours.raw.client_list() if client["db"] == str(ours.settings.db)]
            return "bzpopmin" in here

        await wait_until_async(is_blocked, "our worker to wait")
        before = waits_ended()
        job_id = await peer.queue.add("echo", {"n": 1})
        assert await peer.finished(events, job_id) == {"n": 1}
        await wait_until_async(is_blocked, "our worker to wait again")
        # Calls are counted as they end: the wait that the add ended, and at most one for the token that a take leaves.
        assert waits_ended() - before <= 2


@pytest.mark.wire(28)
async def test_an_id_without_a_job_is_passed_over(peer: Peer, ours: EngineQueue) -> None:
    for job_id in ("gone", "gone-too", "there"):
        await peer.queue.add("echo", {}, jobId=job_id)
    await peer.queue.add("echo", {}, jobId="gone-important", priority=1)
    await peer.queue.add("echo", {}, jobId="gone-due", delay=1, timestamp=1000)
    ours.raw.delete(*(ours.keys.job(job_id) for job_id in ("gone", "gone-too", "gone-important", "gone-due")))
    assert [job.id for job in await ours.take(10)] == ["there"]
    assert ours.places() == {"active": ["there"]}
    for job_id in ("gone", "gone-too", "gone-important", "gone-due"):
        assert await peer.queue.call("getJob", job_id) is None
        assert not ours.raw.keys(ours.keys.job(job_id) + "*")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.wire(93)
async def test_their_listener_reads_whatever_results_and_progress_hold(peer: Peer, ours: EngineQueue) -> None:
    """Every kind of event of ours, with values that hypothesis makes up; `Peer.close` fails on what it cannot read."""
    listener = await peer.listener()
    values: list[Any] = []

    @settings(max_examples=60, database=None, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(json_values)
    def make_up(value: Any) -> None:
        values.append(value)

    make_up()
    for value in values:
        job_id = await ours.add("echo", value, attempts=2)
        (job,) = await ours.take()
        text = codec.encode(value, "return value")
        await ours.active.progress(job_id, text)
        await ours.finish(Finish.retry(job, str(value), "[]", 0))
        await ours.finish(Finish.completed(await ours.take_one(), text))
    await ours.add("echo", delay=60_000)
    await ours.add("echo", jobId="twice")
    await ours.add("echo", jobId="twice")
    await ours.finish(Finish.failed(await ours.take_one(), "\ud7ff \U0001f389 \u2028\x00", "[]", attempts=1))
    await ours.producer.pause()
    await ours.producer.resume()
    told = await listener.events_until("resumed")
    assert [event["event"] for event in told] == ours.event_names()
    results = [event["returnvalue"] for event in told if event["event"] == "completed"]
    progress = [event["data"] for event in told if event["event"] == "progress"]
    assert len(values) > 20
    assert _doubles(results) == _doubles(progress) == _doubles(values)


def _doubles(value: Any) -> Any:
    """With numbers as JavaScript has them, which writes large doubles like integers."""
    return json.loads(json.dumps(value), parse_int=float)
