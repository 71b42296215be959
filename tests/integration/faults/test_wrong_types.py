"""Keys of a queue that have another type than BullMQ's: it stands still, loses nothing, and goes on when mended."""

from __future__ import annotations

import asyncio
import collections
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest

from support import flow_trees, invariants
from support.engine import EngineQueue, open_queue
from support.flow_trees import tree
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue, errors
from toril.engine import administration, operations, scripts
from toril.engine.maintenance import recover_stalled
from toril.jobs.job import JobState, NewJob
from toril.jobs.options import JobOptions
from toril.jobs.outcome import Finish, TakenJob
from toril.jobs.retention import KeepPolicy

NAMES = (
    "wait", "active", "prioritized", "delayed", "completed", "failed", "events", "marker", "limiter", "meta", "stalled",
)  # fmt: skip

TOLD = "Redis fails: a key of this queue"


@contextmanager
def wrong_type(stored: EngineQueue, name: str) -> Iterator[None]:
    """For the length of the block, a key is of another type; what it held is put back at the end.

    Each in one transaction, beside workers that fill and empty it. What is not there is not renamed, which is no harm.
    """
    key, aside = stored.keys.base + name, f"aside:{stored.keys.queue}"
    with stored.raw.pipeline() as together:
        together.rename(key, aside)
        if name == "limiter":
            together.rpush(key, "x")
        else:
            together.set(key, "x")
        _, is_done = together.execute(raise_on_error=False)
        assert is_done == 1
    yield
    with stored.raw.pipeline() as together:
        together.delete(key).rename(aside, key)
        together.execute(raise_on_error=False)


async def fill(queue: EngineQueue) -> None:
    """Three jobs in `wait`, two with a priority, two that are due; a rate limit that nobody reaches."""
    for number in range(3):
        await queue.add("step", {}, jobId=f"plain-{number}")
    for number in range(2):
        await queue.add("step", {}, jobId=f"first-{number}", priority=1)
        await queue.add("step", {}, jobId=f"later-{number}", delay=1, timestamp=1000, priority=number)
    queue.raw.hset(queue.keys.meta, mapping={"max": 1000, "duration": 600_000})


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("name", NAMES)
async def test_no_call_loses_a_job_to_it(queue: EngineQueue, name: str) -> None:
    await fill(queue)
    with wrong_type(queue, name), suppress(errors.RedisError):
        await queue.active.take(10, "token:1")
    assert invariants.StoredQueue(queue.raw, queue.keys.queue).problems() == []
    taken = await queue.active.adopt("token:", ()) or await queue.take(3)
    ends = [Finish.completed(taken[0], "1"), Finish.failed(taken[1], "no", "[]"), Finish.retry(taken[2], "", "[]", 10)]
    with wrong_type(queue, name), pytest.raises(errors.RedisError):
        await queue.active.finish_and_take(ends, 10, "token:2")
    assert invariants.StoredQueue(queue.raw, queue.keys.queue).problems() == []
    queue.raw.delete(*[queue.keys.lock(job.id) for job in taken])
    for _ in range(2):
        queue.raw.delete(queue.keys.stalled_check)
        with wrong_type(queue, name), suppress(errors.RedisError):
            await recover_stalled.run_once(queue.connection, queue.keys)
    stored = invariants.assert_sound(queue.raw, queue.keys.queue, is_at_rest=False)
    assert len(stored.jobs) == 7


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("name", ["wait", "prioritized", "completed", "events"])
async def test_a_worker_goes_on_when_it_is_mended(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended: collections.Counter[str] = collections.Counter()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        ended[job.id] += 1

    await fill(stored)
    async with worker(tasks, concurrency=2, lock_ms=2000, lock_renew_ms=100, stalled_interval_ms=100):
        with wrong_type(stored, name):

            async def is_told() -> bool:
                return TOLD in caplog.text

            await wait_until_async(is_told, "a line about the key")
            # It looks again now and then, and is neither a load nor talkative meanwhile.
            await more_calls(stored, 5)
            assert caplog.text.count(TOLD) == 1
        await wait_until_async(lambda: _all_ended(stored), "all jobs to end", timeout_seconds=60)
    invariants.assert_sound(stored.raw, stored.keys.queue)
    assert ended.total() == 7


@pytest.mark.requirement("T33", "T05")
@pytest.mark.parametrize("name", ["active", "completed", "events", "meta"])
async def test_jobs_that_end_meanwhile_are_recorded_when_it_is_mended(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, name: str
) -> None:
    """None of them is lost, fails or runs again, though their locks and more would have run out."""
    runs: collections.Counter[str] = collections.Counter()
    may_end = asyncio.Event()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        runs[job.id] += 1
        await may_end.wait()

    async def are_running() -> bool:
        return len(runs) == 3

    await fill(stored)
    async with worker(tasks, concurrency=3, lock_ms=2000, lock_renew_ms=100, stalled_interval_ms=100):
        await wait_until_async(are_running, "three jobs to run")
        with wrong_type(stored, name):
            may_end.set()
            await more_calls(stored, 60)
        await wait_until_async(lambda: _all_ended(stored), "all jobs to end", timeout_seconds=60)
    invariants.assert_sound(stored.raw, stored.keys.queue)
    assert runs.total() == 7


async def more_calls(stored: EngineQueue, count: int) -> None:
    """Wait until the server has run so many more scripts."""

    def calls() -> int:
        return int(stored.raw.info("commandstats")["cmdstat_evalsha"]["calls"])

    wanted = calls() + count

    async def are_made() -> bool:
        return calls() >= wanted

    await wait_until_async(are_made, f"{count} more calls")


async def _all_ended(stored: EngineQueue) -> bool:
    return set(stored.places()) == {"completed"} and len(stored.places()["completed"]) == 7


@pytest.mark.requirement("T33", "T83")
@pytest.mark.parametrize("part", ["", ":lock"])
async def test_one_jobs_own_keys_spoil_that_job_alone(queue: EngineQueue, part: str) -> None:
    """Its hash or its lock is a list, while it runs beside others."""
    for _ in range(3):
        await queue.add()
    jobs = (await queue.active.take(3, "mine:1")).jobs
    key = queue.keys.job(jobs[1].id) + part
    queue.raw.delete(key)
    queue.raw.rpush(key, "x")
    for job in jobs:
        queue.raw.pexpire(queue.keys.lock(job.id), 5000)
    if not part:
        queue.raw.delete(queue.keys.lock(jobs[1].id))
    assert await queue.active.extend_locks(jobs) == {jobs[1].id}
    assert all(queue.raw.pttl(queue.keys.lock(job.id)) > 20_000 for job in (jobs[0], jobs[2]))
    assert [job.id for job in await queue.active.adopt("mine:", ())] == [jobs[2].id, jobs[0].id]
    reply = await queue.active.finish_and_take([Finish.completed(jobs[0], "1"), Finish.completed(jobs[2], "1")], 0, "t")
    assert reply.codes == [0, 0]


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("name", ["de:d", "dn:d"])
async def test_a_deduplication_key_keeps_no_job_from_its_end(queue: EngineQueue, name: str) -> None:
    """Nobody could end the job any more, once it is taken out of `active`."""
    await queue.producer.add([NewJob.create("step", {}, JobOptions.from_bullmq({"deduplication": {"id": "d"}}))])
    job = await queue.take_one()
    with wrong_type(queue, name):
        await queue.finish(Finish.completed(job, "1"))
    assert queue.places() == {"completed": [job.id]}
    await queue.add()
    with wrong_type(queue, name):
        await operations.execute(queue.connection, administration.clean(queue.keys, JobState.COMPLETED))
    assert list(invariants.StoredQueue(queue.raw, queue.keys.queue).jobs) == ["2"]


@pytest.mark.requirement("T33", "T83")
async def test_a_job_whose_end_cannot_be_recorded_is_not_run_at_once_again(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    """It is given up: when its lock is over it is one that stalled, and those have an end."""
    runs: list[str] = []

    @tasks.task
    async def spoil(*, job: Job = Job.current()) -> None:
        runs.append(job.id)
        stored.raw.set(stored.keys.job(job.id) + ":dependencies", "x")

    async with worker(tasks, concurrency=4, lock_ms=1000, lock_renew_ms=300, stalled_interval_ms=300):
        handle = await spoil.enqueue()
        with pytest.raises(JobFailedError, match="stalled"):
            await handle.result(60)
    assert len(runs) == 2


@pytest.mark.requirement("T33", "T83")
async def test_what_retention_cannot_tell_a_parent_costs_no_other_job_its_end(queue: EngineQueue) -> None:
    """The oldest failed job has a parent whose keys are broken; it goes while two others end in one call."""
    for job_id in ("old", "a", "b"):
        await queue.add(jobId=job_id)
    old, first, second = await queue.take(3)
    await queue.finish(Finish.failed(old, "no", "[]"))
    parent = queue.keys.job("parent")
    link = json.dumps({"id": "parent", "queueKey": queue.keys.base[:-1]})
    queue.raw.hset(queue.keys.job("old"), mapping={"parentKey": parent, "parent": link})
    queue.raw.set(parent + ":dependencies", "x")
    await queue.finish(Finish.failed(first, "no", "[]", KeepPolicy(count=1)), Finish.completed(second, "1"))
    assert queue.places() == {"failed": ["a"], "completed": ["b"]}


@pytest.mark.requirement("T33", "T83")
async def test_a_job_that_cannot_wait_for_its_children_costs_no_other_job_its_end(queue: EngineQueue) -> None:
    for job_id in ("a", "b"):
        await queue.add(jobId=job_id)
    first, second = await queue.take(2)
    queue.raw.set(queue.keys.job("a") + ":dependencies", "x")
    with pytest.raises(errors.WrongKeyTypeError):
        await queue.finish(Finish.wait_for_children(first), Finish.completed(second, "1"))
    assert queue.places() == {"active": ["a", "b"]}
    await queue.finish(Finish.completed(second, "1"))


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("name", ["wait", "prioritized", "delayed", "events", "meta", "active"])
@pytest.mark.parametrize("end", ["completed", "failed", "removed"])
async def test_a_parent_whose_queue_is_broken_stays_somewhere(
    queue: EngineQueue, redis_url: str, name: str, end: str
) -> None:
    """Its last child goes in this moment: the parent is found where it was, or where it belongs."""
    options: dict[str, Any] = {"prioritized": {"priority": 1}, "delayed": {"delay": 60_000}}.get(name, {})
    async with open_queue(redis_url, queue.keys.queue + "-up") as upper:
        upper.raw.hset(upper.keys.meta, mapping={"concurrency": 9, "opts.maxLenEvents": 10_000})
        child = tree(queue, "a", failParentOnFailure=True)
        await flow_trees.add(queue.connection, tree(upper, "p", child, **options))
        with wrong_type(upper, name):
            if end == "removed":
                with suppress(errors.WrongKeyTypeError):
                    await queue.connection.run(scripts.remove_job(queue.keys, "a", with_children=False, count=1))
            else:
                job = await queue.take_one()
                await queue.finish(Finish.completed(job, "1") if end == "completed" else Finish.failed(job, "no", "[]"))
        found = invariants.StoredQueue(upper.raw, upper.keys.queue)
        assert [problem for problem in found.problems() if "in no state" in problem] == []


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("how", ["drain", "obliterate"])
async def test_a_parent_whose_queue_is_broken_keeps_no_job_from_being_removed(
    queue: EngineQueue, redis_url: str, how: str
) -> None:
    async with open_queue(redis_url, queue.keys.queue + "-up") as upper:
        await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
        for _ in range(2):
            await queue.add()
        act = administration.drain(queue.keys) if how == "drain" else administration.obliterate(queue.keys)
        with wrong_type(upper, "wait"):
            await operations.execute(queue.connection, act)
        assert invariants.assert_sound(queue.raw, queue.keys.queue).jobs == {}
        assert upper.places() == {"waiting-children": ["p"]}


CHILD_ENDS: dict[str, tuple[dict[str, Any], Callable[[TakenJob], Finish]]] = {
    "completed": ({}, lambda job: Finish.completed(job, "1")),
    "completed, not kept": ({}, lambda job: Finish.completed(job, "1", KeepPolicy(count=0))),
    "failed, not kept": ({}, lambda job: Finish.failed(job, "no", "[]", KeepPolicy(count=0))),
    "failed, fails its parent": ({"failParentOnFailure": True}, lambda job: Finish.failed(job, "no", "[]")),
    "failed, parent goes on": ({"continueParentOnFailure": True}, lambda job: Finish.failed(job, "no", "[]")),
    "failed, is ignored": ({"ignoreDependencyOnFailure": True}, lambda job: Finish.failed(job, "no", "[]")),
    "failed, is no dependency": ({"removeDependencyOnFailure": True}, lambda job: Finish.failed(job, "no", "[]")),
}


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("name", ["wait", "prioritized", "delayed", "events", "meta", "marker"])
@pytest.mark.parametrize("end", CHILD_ENDS)
async def test_a_parent_whose_queue_was_broken_goes_on_when_it_is_mended(
    queue: EngineQueue, redis_url: str, name: str, end: str
) -> None:
    """With the next check for stalled jobs of the child's queue, as if nothing had been broken."""
    options, finish = CHILD_ENDS[end]
    place: dict[str, Any] = {"prioritized": {"priority": 1}, "delayed": {"delay": 60_000}}.get(name, {})
    found = []
    for is_broken in (True, False):
        queue.raw.flushdb()
        async with open_queue(redis_url, queue.keys.queue + "-up") as upper:
            upper.raw.hset(upper.keys.meta, mapping={"opts.maxLenEvents": 10_000})
            await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a", **options), **place))
            job = await queue.take_one()
            with wrong_type(upper, name) if is_broken else nullcontext():
                await queue.finish(finish(job))
                await check(queue)
            await check(queue)
            notes = [upper.raw.hgetall(upper.keys.job("p") + part) for part in (":processed", ":failed")]
            found.append((upper.places(), upper.hash("p"), notes, upper.event_names()[-1]))
            assert "waiting-children" not in upper.places()
            assert not queue.raw.exists(queue.keys.base + "toril:owed")
    for _, parent, _, _ in found:
        del parent["timestamp"]
    assert found[0] == found[1]


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("part", ["", ":dependencies", ":processed", ":failed", ":unsuccessful"])
@pytest.mark.parametrize("end", [end for end in CHILD_ENDS if "not kept" not in end])
async def test_a_parent_that_could_not_be_told_of_a_child_hears_of_it_when_it_is_mended(
    queue: EngineQueue, redis_url: str, part: str, end: str
) -> None:
    """What is broken is the parent's own: its hash, or one of its notes on children."""
    options, finish = CHILD_ENDS[end]
    found = []
    for is_broken in (True, False):
        queue.raw.flushdb()
        async with open_queue(redis_url, queue.keys.queue + "-up") as upper:
            await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a", **options)))
            job = await queue.take_one()
            with wrong_type(upper, f"p{part}") if is_broken else nullcontext():
                await queue.finish(finish(job))
                await check(queue)
            await check(queue)
            notes = [upper.raw.hgetall(upper.keys.job("p") + part) for part in (":processed", ":failed")]
            found.append((upper.places(), upper.hash("p"), notes))
            assert not queue.raw.exists(queue.keys.base + "toril:owed")
    for _, parent, _ in found:
        del parent["timestamp"]
    assert found[0] == found[1]


async def check(queue: EngineQueue) -> None:
    queue.raw.delete(queue.keys.stalled_check)
    await recover_stalled.run_once(queue.connection, queue.keys)


@pytest.mark.requirement("T33")
async def test_what_a_parent_is_owed_has_an_end(queue: EngineQueue, redis_url: str) -> None:
    async with open_queue(redis_url, queue.keys.queue + "-up") as upper:
        await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
        with wrong_type(upper, "wait"):
            await queue.finish(Finish.completed(await queue.take_one(), "1"))
            await check(queue)
            assert 0 < queue.raw.pttl(queue.keys.base + "toril:owed") <= 30 * 24 * 3600 * 1000
            await operations.execute(queue.connection, administration.obliterate(queue.keys))
            assert queue.raw.keys(queue.keys.base + "*") == []


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("junk", ["junk", "3", "{}"])
async def test_a_note_of_what_is_owed_that_nobody_can_read_keeps_no_job_from_being_given_back(
    queue: EngineQueue, junk: str
) -> None:
    await queue.add(jobId="a")
    await queue.take_one()
    queue.raw.delete(queue.keys.job("a") + ":lock")
    queue.raw.hset(queue.keys.base + "toril:owed", "nobody", junk)
    await check(queue)
    queue.raw.delete(queue.keys.stalled_check)
    assert await recover_stalled.run_once(queue.connection, queue.keys) == ["a"]
