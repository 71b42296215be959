"""Scripts that fail do so before they have written, and one broken key spoils no more than it must."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from support import flow_trees, invariants
from support.engine import EngineQueue, open_queue
from support.flow_trees import tree
from toril import errors
from toril.engine import administration, operations
from toril.engine.maintenance import recover_stalled
from toril.engine.worker import Finish
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

pytestmark = pytest.mark.requirement("T33")

HOUR_MS = 3_600_000


@pytest.fixture
async def upper(redis_url: str, queue_name: str) -> AsyncIterator[EngineQueue]:
    """The queue of parents."""
    async with open_queue(redis_url, queue_name + "-up") as opened:
        yield opened


def spoil(queue: EngineQueue, part: str, *, value: str = "x") -> None:
    """Put a text in place of a key."""
    queue.raw.delete(queue.keys.base + part)
    queue.raw.set(queue.keys.base + part, value)


def lost(queue: EngineQueue) -> list[str]:
    problems = invariants.StoredQueue(queue.raw, queue.keys.queue).problems()
    return [problem for problem in problems if "in no state" in problem]


# ---- deduplication


async def test_a_delayed_job_that_is_replaced_goes_though_its_parents_queue_is_broken(
    queue: EngineQueue, upper: EngineQueue
) -> None:
    await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a", delay=HOUR_MS)))
    queue.raw.hset(queue.keys.job("a"), "deid", "d")
    queue.raw.set(queue.keys.deduplication("d"), "a")
    spoil(upper, "wait")
    await queue.add(jobId="b", delay=HOUR_MS, deduplication={"id": "d", "replace": True})
    assert queue.places() == {"delayed": ["b"]}
    assert (lost(queue), lost(upper)) == ([], [])


@pytest.mark.parametrize("spoiled", [("marker", "x"), ("id", "many"), ("id", "list")], ids="-".join)
async def test_a_job_that_another_one_follows_is_not_lost(queue: EngineQueue, spoiled: tuple[str, str]) -> None:
    part, value = spoiled
    options: dict[str, Any] = {"deduplication": {"id": "d", "keepLastIfActive": True}}
    await queue.add(**options)
    job = await queue.take_one()
    await queue.add(**options)
    spoil(queue, part, value=value)
    if value == "list":
        queue.raw.delete(queue.keys.id)
        queue.raw.rpush(queue.keys.id, "x")
    end = Finish.completed(job, "1")
    try:
        await queue.active.finish_and_take([end], 0, queue.token())
    except errors.WrongKeyTypeError:
        # Nothing was done, and it is done when the key is mended.
        assert queue.raw.lrange(queue.keys.active, 0, -1) == ["1"]
        queue.raw.delete(queue.keys.base + part)
        await queue.finish(end)
    assert queue.places() == {"completed": ["1"], "wait": ["2"]}
    assert lost(queue) == []


@pytest.mark.parametrize("part", ["de:d", "dn:d"])
async def test_jobs_of_one_call_are_added_together_or_not(queue: EngineQueue, part: str) -> None:
    options: list[dict[str, Any]] = [{}, {"priority": 1}, {"deduplication": {"id": "d", "keepLastIfActive": True}}]
    jobs = [NewJob.create("n", {}, JobOptions.from_bullmq(each)) for each in options]
    await queue.producer.add(jobs)
    await queue.take(3)
    before = queue.places()
    if part == "dn:d":
        queue.raw.lpush(queue.keys.base + part, "x")
    else:
        queue.raw.delete(queue.keys.base + part)
        queue.raw.lpush(queue.keys.base + part, "x")
    with pytest.raises(errors.WrongKeyTypeError):
        await queue.producer.add(jobs)
    assert queue.places() == before


# ---- flows


@pytest.mark.parametrize("part", ["id", "p:dependencies", "p:processed"])
async def test_a_flow_is_added_whole_or_not_at_all(queue: EngineQueue, upper: EngineQueue, part: str) -> None:
    spoil(upper if part != "id" else queue, part)
    with pytest.raises(errors.RedisError):
        await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
    assert (queue.places(), upper.places()) == ({}, {})
    assert queue.raw.keys(queue.keys.job("a") + "*") == []


async def test_a_child_of_a_parent_with_broken_keys_is_not_added(queue: EngineQueue) -> None:
    await queue.add(jobId="p")
    spoil(queue, "p:dependencies")
    options: list[dict[str, Any]] = [{}, {"jobId": "a", "parent": {"id": "p", "queue": queue.keys.qualified_name}}]
    with pytest.raises(errors.WrongKeyTypeError):
        await queue.producer.add([NewJob.create("n", {}, JobOptions.from_bullmq(each)) for each in options])
    assert queue.places() == {"wait": ["p"]}
    assert queue.hash("a") == {}


@pytest.mark.parametrize("how", ["one", "all"])
async def test_a_parent_with_broken_keys_keeps_no_job_from_running_again(
    queue: EngineQueue, upper: EngineQueue, how: str
) -> None:
    await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
    await queue.add(jobId="b")
    await queue.finish(*[Finish.failed(job, "no", "[]") for job in await queue.take(2)])
    spoil(upper, "p:failed")
    spoil(upper, "p:unsuccessful")
    if how == "all":
        assert await operations.execute(queue.connection, administration.retry_all(queue.keys)) == 2
    else:
        for job_id in "ab":
            await operations.execute(queue.connection, administration.retry(queue.keys, job_id))
    assert queue.places() == {"wait": ["a", "b"]}


# ---- schedulers


async def test_a_schedulers_job_that_stalls_is_not_lost_to_broken_schedulers(queue: EngineQueue) -> None:
    await arm(queue, "s")
    job = await queue.take_one()
    queue.raw.delete(queue.keys.lock(job.id))
    queue.raw.sadd(queue.keys.stalled, job.id)
    spoil(queue, "repeat")
    assert await recover_stalled.run_once(queue.connection, queue.keys, max_stalled_count=0) == [job.id]
    assert queue.places() == {"wait": [job.id]}


async def arm(queue: EngineQueue, name: str) -> None:
    await queue.schedulers.upsert(name, Schedule(every_ms=HOUR_MS), JobTemplate.create("n"))


async def test_a_scheduler_with_a_broken_key_stops_no_other(queue: EngineQueue) -> None:
    for name in "abc":
        await arm(queue, name)
    spoil(queue, "repeat:b")
    made = await queue.schedulers.advance_due(also_waiting=True)
    assert [job_id.split(":")[1] for job_id in made.job_ids] == ["a", "c"]
    again = await queue.schedulers.advance_due(also_waiting=True)
    assert again.job_ids == []


@pytest.mark.parametrize(
    "break_it", [lambda queue: spoil(queue, "repeat:s"), lambda queue: spoil(queue, "id", value="many")],
    ids=["definition", "id"],
)  # fmt: skip
async def test_a_scheduler_that_cannot_be_changed_keeps_its_job(
    queue: EngineQueue, break_it: Callable[[EngineQueue], None]
) -> None:
    await arm(queue, "s")
    before = queue.places()
    break_it(queue)
    with pytest.raises(errors.RedisError):
        await queue.schedulers.upsert("s", Schedule(every_ms=2 * HOUR_MS), JobTemplate.create("n"))
    assert queue.places() == before
    assert lost(queue) == []


async def test_no_slot_is_passed_over_while_jobs_get_no_ids(queue: EngineQueue) -> None:
    await arm(queue, "s")
    (before,) = await queue.schedulers.list()
    spoil(queue, "id", value="many")
    with pytest.raises(errors.RedisError):
        await queue.schedulers.advance_due(also_waiting=True)
    (after,) = await queue.schedulers.list()
    assert (after.slot_ms, after.iteration_count) == (before.slot_ms, before.iteration_count)
