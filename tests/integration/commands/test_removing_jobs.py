"""Removing jobs by hand, one or many: `remove_job`, `remove_children`, `leave_parent`, `sweep_jobs`, `obliterate`."""

from __future__ import annotations

import asyncio

import pytest

from support import flow_trees
from support.engine import EngineQueue, open_queue
from support.flow_trees import tree
from support.invariants import assert_sound
from toril import clock, errors
from toril.engine import administration, operations, scripts
from toril.engine.worker import Finish
from toril.jobs.job import JobState


async def test_a_removed_job_leaves_nothing_but_its_event(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    await queue.active.log("1", "row")
    with pytest.raises(errors.JobLockedError, match=r"job 1 of queue .* is being run"):
        await operations.execute(queue.connection, administration.remove(queue.keys, "1"))
    await queue.finish(Finish.completed(job, "1"))
    for _ in range(2):
        await operations.execute(queue.connection, administration.remove(queue.keys, "1"))
    assert queue.raw.keys(queue.keys.job("1") + "*") == []
    assert queue.places() == {}
    assert queue.event_names().count("removed") == 1
    assert queue.events()[-1] == {"event": "removed", "jobId": "1", "prev": "completed"}


async def test_many_children_take_several_calls(queue: EngineQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administration, "JOBS_PER_CALL", 2)
    nested = tree(queue, "child-m", *[tree(queue, f"child-m-{n}") for n in range(3)])
    await flow_trees.add(queue.connection, tree(queue, "p", nested, *[tree(queue, f"child-{n}") for n in range(5)]))
    await queue.finish(Finish.completed(await queue.take_one(), "1"))
    await operations.execute(queue.connection, administration.remove(queue.keys, "p"))
    assert queue.places() == {}
    assert queue.raw.keys(queue.keys.base + "*child*") == queue.raw.keys(queue.keys.base + "p*") == []


async def test_nothing_is_removed_while_somebody_works_a_job_below(queue: EngineQueue) -> None:
    await flow_trees.add(queue.connection, tree(queue, "p", tree(queue, "m", tree(queue, "x"))))
    await queue.take_one()
    before = flow_trees.dump(queue)
    with pytest.raises(errors.JobLockedError, match="or a child of it, is being run"):
        await operations.execute(queue.connection, administration.remove(queue.keys, "p"))
    assert flow_trees.dump(queue) == before


async def test_a_child_that_is_taken_between_two_calls_is_not_removed(queue: EngineQueue) -> None:
    await flow_trees.add(queue.connection, tree(queue, "p", *[tree(queue, f"child-{n}") for n in range(4)]))

    async def remove(count: int, *, has_begun: bool) -> int:
        call = scripts.remove_job(queue.keys, "p", with_children=True, count=count, has_begun=has_begun)
        return await queue.connection.run(call)

    assert await remove(1, has_begun=False) == 2
    taken = await queue.take_one()
    assert await remove(9, has_begun=True) == 0
    assert queue.places()["active"] == [taken.id]
    assert queue.hash("p")["name"] == "echo"
    await queue.finish(Finish.completed(taken, "1"))
    assert await remove(9, has_begun=True) == 1
    assert queue.raw.keys(queue.keys.base + "*child*") == queue.raw.keys(queue.keys.base + "p*") == []


@pytest.mark.parametrize("jobs_per_call", [1000, 1])
@pytest.mark.parametrize("part", ["dependencies", "processed", "failed", "unsuccessful"])
async def test_jobs_that_are_children_of_each_other(
    queue: EngineQueue, part: str, jobs_per_call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody adds them so, but they may be stored: a circle has an end for those who remove it."""
    monkeypatch.setattr(administration, "JOBS_PER_CALL", jobs_per_call)
    for job_id in "abc":
        await queue.add(jobId=job_id)
    for parent, child in ("ab", "bc", "ca", "bb"):
        key, child_key = f"{queue.keys.job(parent)}:{part}", queue.keys.job(child)
        if part == "dependencies":
            queue.raw.sadd(key, child_key)
        elif part == "unsuccessful":
            queue.raw.zadd(key, {child_key: 1})
        else:
            queue.raw.hset(key, child_key, "1")
    if part == "dependencies":
        queue.raw.sadd(queue.keys.job("a") + ":dependencies", "nonsense")
    async with asyncio.timeout(30):
        await operations.execute(queue.connection, administration.remove_unprocessed_children(queue.keys, "c"))
        assert queue.places() == ({} if part == "dependencies" else {"wait": ["a", "b", "c"]})
        await operations.execute(queue.connection, administration.remove(queue.keys, "a"))
    assert queue.places() == {}
    assert [key for job_id in "abc" for key in queue.raw.keys(queue.keys.job(job_id) + "*")] == []


async def test_only_children_that_wait_are_removed(queue: EngineQueue) -> None:
    await flow_trees.add(queue.connection, tree(queue, "p", *[tree(queue, f"child-{n}") for n in range(4)]))
    done, bad, _ = await queue.take(3)
    await queue.finish(Finish.completed(done, "1"), Finish.failed(bad, "no", "[]"))
    await operations.execute(queue.connection, administration.remove_unprocessed_children(queue.keys, "p"))
    assert queue.places() == {
        "active": ["child-2"], "completed": ["child-0"], "failed": ["child-1"], "waiting-children": ["p"],
    }  # fmt: skip


@pytest.mark.parametrize("jobs_per_call", [1000, 50, 7])
async def test_each_of_many_children_is_looked_at_once(
    queue: EngineQueue, jobs_per_call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that stay, since somebody runs them or they have failed, however many calls it takes."""
    monkeypatch.setattr(administration, "JOBS_PER_CALL", jobs_per_call)
    await flow_trees.add(queue.connection, tree(queue, "p", *[tree(queue, f"child-{n}") for n in range(1500)]))
    taken = await queue.take(1000)
    await queue.finish(*[Finish.failed(job, "no", "[]") for job in taken[:300]])
    queue.raw.config_resetstat()
    await operations.execute(queue.connection, administration.remove_unprocessed_children(queue.keys, "p"))
    asked = int(queue.raw.info("commandstats")["cmdstat_zscore"]["calls"])
    places = {name: len(ids) for name, ids in queue.places().items()}
    assert places == {"active": 700, "failed": 300, "waiting-children": 1}
    assert queue.raw.smembers(queue.keys.job("p") + ":dependencies") == {queue.keys.job(job.id) for job in taken}
    # Each that is removed is looked for in five sorted sets. Of some it is asked again: at the end of a call the rest
    # of a page is left to the next.
    assert asked < 2 * 1500 + 5 * 500


async def test_a_child_that_leaves_lets_its_parent_run(queue: EngineQueue) -> None:
    await flow_trees.add(queue.connection, tree(queue, "p", tree(queue, "a")))
    assert await operations.execute(queue.connection, administration.leave_parent(queue.keys, "a")) is True
    assert queue.places() == {"wait": ["p", "a"]}
    assert not {"parent", "parentKey"} & queue.hash("a").keys()
    with pytest.raises(errors.JobStateError, match="has no parent"):
        await operations.execute(queue.connection, administration.leave_parent(queue.keys, "a"))


@pytest.mark.parametrize("jobs_per_call", [1000, 3, 1])
async def test_cleaning_takes_the_old_and_leaves_the_young(
    queue: EngineQueue, jobs_per_call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "JOBS_PER_CALL", jobs_per_call)
    now = clock.now_ms()
    for number in range(10):
        await queue.add(jobId=f"job-{number}", timestamp=now if number in (1, 4, 9) else now - 100_000)
    removed = await operations.execute(
        queue.connection, administration.clean(queue.keys, JobState.WAITING, grace_ms=50_000)
    )
    assert sorted(removed) == [f"job-{number}" for number in (0, 2, 3, 5, 6, 7, 8)]
    assert queue.places() == {"wait": ["job-1", "job-4", "job-9"]}
    told = [int(event["count"]) for event in queue.events() if event["event"] == "cleaned"]
    assert sum(told) == 7
    assert len(told) == 10 // jobs_per_call + 1


async def test_cleaning_looks_at_both_lists_and_at_no_more_than_the_limit(queue: EngineQueue) -> None:
    for number in range(3):
        await queue.add(jobId=f"w-{number}")
    queue.raw.lpush(queue.keys.paused, "p-0", "p-1")
    removed = await operations.execute(queue.connection, administration.clean(queue.keys, JobState.WAITING, limit=4))
    assert removed == ["w-0", "w-1", "w-2", "p-0"]
    assert queue.places() == {"paused": ["p-1"]}


@pytest.mark.parametrize("jobs_per_call", [1000, 2])
async def test_draining_takes_all_that_waits(
    queue: EngineQueue, jobs_per_call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "JOBS_PER_CALL", jobs_per_call)
    for number in range(8):
        await queue.add(jobId=f"n-{number}", priority=number % 3)
    await queue.add(jobId="later", delay=60_000)
    running = await queue.take_one()
    assert await operations.execute(queue.connection, administration.drain(queue.keys)) == 7
    assert queue.places() == {"active": [running.id], "delayed": ["later"]}
    assert await operations.execute(queue.connection, administration.drain(queue.keys, delayed=True)) == 1
    assert len(queue.raw.keys(queue.keys.base + "n-*")) == 2


async def test_obliterating_with_running_jobs_has_to_be_forced(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    with pytest.raises(errors.JobStateError, match="has running jobs"):
        await operations.execute(queue.connection, administration.obliterate(queue.keys))
    assert not await queue.inspector.is_paused()
    await operations.execute(queue.connection, administration.obliterate(queue.keys, force=True))
    assert queue.raw.keys("*") == []
    assert (await queue.active.finish_and_take([Finish.completed(job, "1")], 0, "t")).codes == [-1]


async def test_obliterating_takes_only_keys_of_the_queue(queue: EngineQueue) -> None:
    """Names may hold what a pattern would read otherwise."""
    await queue.add()
    others = ["bull:other:wait", queue.keys.base[:-1] + "x:wait", queue.keys.base + "deep:er:q:meta", "unrelated"]
    for key in others:
        queue.raw.set(key, "x")
    queue.raw.set(queue.keys.base + "deep:er:q:1", "a job of the queue with our base in its prefix")
    queue.raw.set(queue.keys.base + "old:logs", "of no job")
    await operations.execute(queue.connection, administration.obliterate(queue.keys))
    assert sorted(queue.raw.keys("*")) == sorted([*others, queue.keys.base + "deep:er:q:1"])


async def test_jobs_added_while_a_queue_is_obliterated_are_whole_or_gone(
    queue: EngineQueue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "JOBS_PER_CALL", 5)
    for number in range(50):
        await queue.add(delay=number % 2 * 60_000)
    is_over = asyncio.Event()

    async def go_on_adding() -> int:
        async with open_queue(redis_url, queue.keys.queue) as other:
            count = 0
            while not is_over.is_set() or count < 20:
                await other.add(jobId=f"late-{count}", priority=count % 2)
                count += 1
            return count

    adding = asyncio.create_task(go_on_adding())
    await asyncio.wait_for(operations.execute(queue.connection, administration.obliterate(queue.keys)), 60)
    is_over.set()
    added = await adding
    kept = [job_id for ids in queue.places().values() for job_id in ids]
    assert len(kept) <= added
    assert_sound(queue.raw, queue.keys.queue)
