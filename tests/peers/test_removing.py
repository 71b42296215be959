"""Removing and retrying jobs of flows and of schedulers as BullMQ does it, and obliterating queues better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support import flow_trees
from support.dumps import dump
from support.engine import EngineQueue
from support.flow_trees import Tree, tree
from support.node_peer import Peer
from toril import errors
from toril.engine import administration, operations
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.scripts import Layout
from toril.engine.worker import Finish
from toril.jobs.job import JobState

Ours = Callable[[QueueKeys, QueueKeys, Layout], Operation[Any]]
"""A call of ours, given the keys of the lower queue and of the upper one."""


Shape = Callable[[EngineQueue, EngineQueue], Tree]
"""A flow, given the upper and the lower queue."""


def pair(**parent: Any) -> Shape:
    return lambda up, low: tree(up, "p", tree(low, "a"), **parent)


def family(up: EngineQueue, low: EngineQueue) -> Tree:
    return tree(up, "p", tree(low, "a"), tree(low, "m", tree(low, "b"), tree(up, "c")))


def close_family(_: EngineQueue, low: EngineQueue) -> Tree:
    return tree(low, "p", tree(low, "m", tree(low, "a")))


SCENES: dict[str, tuple[Shape, str, tuple[str, str | None, str, *tuple[Any, ...]], Ours]] = {
    # what: (flow, what happens to the lower queue's jobs first, their call, ours)
    "the-last-child": (
        pair(), "", ("low", "a", "remove"), lambda low, up, layout: administration.remove(low, "a", layout=layout),
    ),
    "the-last-child-of-a-delayed-parent": (
        pair(delay=60_000), "", ("low", "a", "remove"),
        lambda low, up, layout: administration.remove(low, "a", layout=layout),
    ),
    "the-last-child-of-a-prioritized-parent": (
        pair(priority=3), "", ("low", "a", "remove"),
        lambda low, up, layout: administration.remove(low, "a", layout=layout),
    ),
    "one-of-two": (
        family, "", ("low", "a", "remove"), lambda low, up, layout: administration.remove(low, "a", layout=layout),
    ),
    "a-completed-child": (
        family, "c", ("low", "a", "remove"), lambda low, up, layout: administration.remove(low, "a", layout=layout),
    ),
    "the-parent-with-all": (
        family, "", ("up", "p", "remove"), lambda low, up, layout: administration.remove(up, "p", layout=layout),
    ),
    "the-parent-with-a-completed-child": (
        family, "c", ("up", "p", "remove"), lambda low, up, layout: administration.remove(up, "p", layout=layout),
    ),
    "the-parent-alone": (
        family, "", ("up", "p", "remove", {"removeChildren": False}),
        lambda low, up, layout: administration.remove(up, "p", with_children=False, layout=layout),
    ),
    "children-that-have-not-ended": (
        family, "c", ("up", "p", "removeUnprocessedChildren"),
        lambda low, up, layout: administration.remove_unprocessed_children(up, "p", layout=layout),
    ),
    "children-that-do-not-run": (
        family, "t", ("up", "p", "removeUnprocessedChildren"),
        lambda low, up, layout: administration.remove_unprocessed_children(up, "p", layout=layout),
    ),
    "the-tie-of-the-last-child": (
        pair(), "", ("low", "a", "removeChildDependency"),
        lambda low, up, layout: administration.leave_parent(low, "a", layout=layout),
    ),
    "the-tie-of-a-child-that-completed": (
        pair(), "c", ("low", "a", "removeChildDependency"),
        lambda low, up, layout: administration.leave_parent(low, "a", layout=layout),
    ),
    "by-draining": (
        family, "", ("low", None, "drain"), lambda low, up, layout: administration.drain(low, layout=layout),
    ),
    "by-draining-a-parents-queue": (
        close_family, "", ("low", None, "drain"), lambda low, up, layout: administration.drain(low, layout=layout),
    ),
    "by-cleaning": (
        pair(), "", ("low", None, "clean", 0, 0, "wait"),
        lambda low, up, layout: administration.clean(low, JobState.WAITING, layout=layout),
    ),
    "by-cleaning-parents": (
        family, "", ("low", None, "clean", 0, 0, "waiting-children"),
        lambda low, up, layout: administration.clean(low, JobState.WAITING_CHILDREN, layout=layout),
    ),
    "by-cleaning-failed-children": (
        pair(), "f", ("low", None, "clean", 0, 0, "failed"),
        lambda low, up, layout: administration.clean(low, JobState.FAILED, layout=layout),
    ),
    "nothing-by-retrying-a-completed-child": (
        family, "c", ("low", "a", "retry", "completed"),
        lambda low, up, layout: administration.retry(low, "a", "completed", layout=layout),
    ),
}  # fmt: skip


async def set_the_scene(peer: Peer, ours: EngineQueue, shape: Tree, then: str) -> None:
    producer = await peer.flows()
    await producer.call("add", shape)
    for number, letter in enumerate(then):
        (job,) = (await ours.active.take(1, f"t:{number}")).jobs
        if letter == "c":
            await ours.finish(Finish.completed(job, '{"a":1}'))
        elif letter == "f":
            await ours.finish(Finish.failed(job, "no", '["trace"]'))


@pytest.mark.wire(64, 81)
@pytest.mark.requirement("I-22")
@pytest.mark.parametrize("name", SCENES)
async def test_what_belongs_to_a_flow(
    peer: Peer, upper_peer: Peer, ours: EngineQueue, upper: EngineQueue, name: str
) -> None:
    shape, then, (where, job_id, method, *args), make = SCENES[name]
    await set_the_scene(peer, ours, shape(upper, ours), then)
    queue = (peer if where == "low" else upper_peer).queue
    await (queue.call(method, *args) if job_id is None else queue.job(job_id, method, *args))
    theirs = flow_trees.dump_and_clear(ours)
    await set_the_scene(peer, ours, shape(upper, ours), then)
    await operations.execute(ours.connection, make(ours.keys, upper.keys, ours.producer.layout))
    mine = flow_trees.dump(ours)
    for found in (mine, theirs):
        # Written when their queue was opened, whether or not the flow uses it.
        found.pop(upper.keys.meta, None)
    assert mine == theirs


@pytest.mark.wire(64)
async def test_a_parent_of_a_running_child_stays(
    peer: Peer, upper_peer: Peer, ours: EngineQueue, upper: EngineQueue
) -> None:
    await set_the_scene(peer, ours, family(upper, ours), "t")
    before = flow_trees.dump(ours)
    assert await upper_peer.queue.call("remove", "p") == 0
    with pytest.raises(errors.JobLockedError, match="job p of queue"):
        await operations.execute(ours.connection, administration.remove(upper.keys, "p"))
    assert flow_trees.dump(ours) == before


@pytest.mark.wire(81)
async def test_children_retried_in_bulk_are_waited_for_again(peer: Peer, ours: EngineQueue, upper: EngineQueue) -> None:
    """BullMQ does so since 6.3.16."""
    await set_the_scene(peer, ours, family(upper, ours), "c")
    key = upper.keys.job("p")
    assert ours.raw.hkeys(key + ":processed") == [ours.keys.job("a")]
    assert await operations.execute(ours.connection, administration.retry_all(ours.keys, "completed")) == 1
    assert ours.raw.smembers(key + ":dependencies") == {ours.keys.job("a"), ours.keys.job("m")}
    assert ours.raw.exists(key + ":processed") == 0


async def schedule(peer: Peer, ours: EngineQueue) -> dict[str, str]:
    """A scheduler with its job in `wait` and one with it in `delayed`; their job ids."""
    await peer.queue.call("upsertJobScheduler", "now", {"every": 3_600_000}, {"name": "echo", "data": {"n": 1}})
    await peer.queue.call(
        "upsertJobScheduler", "later", {"pattern": "0 0 1 1 *", "tz": "UTC"}, {"name": "echo", "data": {"n": 2}}
    )
    return {
        name: f"repeat:{name}:{int(score)}" for name, score in ours.raw.zrange(ours.keys.repeat, 0, -1, withscores=True)
    }


@pytest.mark.wire(61, 62, 64)
async def test_armed_runs_of_schedulers_stay(peer: Peer, ours: EngineQueue) -> None:
    """BullMQ's own `drain` cuts the list by count and leaves a wrong id there: that is not copied."""
    await peer.queue.add("echo", {}, jobId="first")
    armed = await schedule(peer, ours)
    for number in range(3):
        await peer.queue.add("echo", {}, jobId=f"behind-{number}")
    await peer.queue.add("echo", {}, jobId="later", delay=60_000)
    kept = {"wait": [armed["now"]], "delayed": [armed["later"]]}
    assert await operations.execute(ours.connection, administration.drain(ours.keys, delayed=True)) == 5
    assert ours.places() == kept
    for state in (JobState.WAITING, JobState.DELAYED):
        assert await operations.execute(ours.connection, administration.clean(ours.keys, state, grace_ms=-60_000)) == []
    assert ours.places() == kept
    for job_id in armed.values():
        with pytest.raises(errors.JobStateError, match="next run of a job scheduler"):
            await operations.execute(ours.connection, administration.remove(ours.keys, job_id))
        assert await peer.queue.job(job_id, "getState") in ("waiting", "delayed")
    assert ours.places() == kept
    assert len(await peer.queue.call("getJobSchedulers")) == 2


async def fill(peer: Peer, ours: EngineQueue, upper: EngineQueue) -> None:
    """Whatever a queue may leave behind."""
    producer = await peer.flows()
    await producer.call("add", family(ours, upper))
    await producer.call("add", close_family(upper, ours))
    await schedule(peer, ours)
    for options in ({}, {"priority": 1}, {"delay": 60_000}, {"deduplication": {"id": "d", "ttl": 60_000}}):
        await peer.queue.add("echo", {}, **options)
    await peer.queue.add("echo", {}, deduplication={"id": "last", "keepLastIfActive": True}, lifo=True)
    await ours.take_one()
    await peer.queue.add("echo", {}, deduplication={"id": "last", "keepLastIfActive": True})
    done, bad = await ours.take(2)
    await ours.active.log(done.id, "row")
    await ours.finish(Finish.completed(done, "1"), Finish.failed(bad, "no", "[]"))
    await peer.queue.call("rateLimit", 60_000)
    for name in ("metrics:completed", "gone:logs", "orphan", "toril:groups", "de:stale", "repeat:0123456789abcdef"):
        ours.raw.hset(ours.keys.base + name, "field", "x")


@pytest.mark.wire(63)
@pytest.mark.parametrize("jobs_per_call", [1000, 2])
async def test_an_obliterated_queue_leaves_no_key(
    peer: Peer, ours: EngineQueue, upper: EngineQueue, jobs_per_call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what BullMQ leaves: parents that wait, the limiter, jobs in no list, deduplication."""
    monkeypatch.setattr(administration, "JOBS_PER_CALL", jobs_per_call)
    await fill(peer, ours, upper)
    ours.raw.hset(ours.keys.base + "nested:q:meta", "opts.maxLenEvents", 1)
    ours.raw.rpush(ours.keys.base + "nested:q:wait", "job of a queue with our base as its prefix")
    with pytest.raises(errors.JobStateError, match="has running jobs"):
        await operations.execute(ours.connection, administration.obliterate(ours.keys))
    assert not await peer.queue.call("isPaused")
    await operations.execute(ours.connection, administration.obliterate(ours.keys, force=True))
    left = ours.raw.keys(ours.keys.base + "*")
    assert sorted(left) == [ours.keys.base + "nested:q:meta", ours.keys.base + "nested:q:wait"]
    # Parents in other queues do not wait for what is gone.
    assert upper.raw.smembers(upper.keys.job("p") + ":dependencies") == set()
    # A queue of that name can begin anew.
    assert await ours.add("echo") == "1"
    assert (await ours.take_one()).id == "1"


@pytest.mark.wire(63)
async def test_our_keys_survive_their_search_for_orphans(peer: Peer, ours: EngineQueue) -> None:
    """BullMQ removes what looks like a job and is in no list."""
    await ours.add("echo")
    ours.raw.hset(ours.keys.base + "toril:groups", "field", "x")
    ours.raw.hset(ours.keys.base + "orphan", "name", "echo")
    await peer.queue.call("removeOrphanedJobs")
    assert not ours.raw.exists(ours.keys.base + "orphan")
    assert ours.raw.exists(ours.keys.base + "toril:groups")
    assert dump(ours)["wait"] == ["1"]
