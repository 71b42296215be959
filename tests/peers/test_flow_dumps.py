"""Flows: what we write equals what BullMQ writes, in all queues of the flow, key by key and event by event."""

from __future__ import annotations

from typing import Any

import pytest

from support import flow_trees
from support.engine import EngineQueue
from support.flow_trees import Tree, tree
from support.node_peer import Peer, PeerError
from support.waiting import wait_until_async
from toril import errors
from toril.engine.worker import Finish, TakenJob
from toril.worker import outcomes


def trees(up: EngineQueue, low: EngineQueue) -> dict[str, Tree]:
    """Flows by what is special about them."""
    leaf = tree(low, "a")
    return {
        "one-child": tree(up, "p", leaf),
        "same-queue": tree(low, "p", leaf),
        "no-child": tree(low, "p"),
        "three-levels": tree(up, "p", tree(low, "m", tree(up, "a"), tree(low, "b")), tree(low, "c")),
        "children-of-all-kinds": tree(
            up, "p", leaf, tree(low, "b", delay=60_000), tree(low, "c", priority=3), tree(low, "d", lifo=True)
        ),
        "parent-with-options": tree(up, "p", leaf, priority=7, delay=50, attempts=3, data={"n": [1, None]}),
        "policies": tree(
            up, "p", tree(low, "a", failParentOnFailure=True), tree(low, "b", continueParentOnFailure=True),
            tree(low, "c", ignoreDependencyOnFailure=True), tree(low, "d", removeDependencyOnFailure=True),
        ),
    }  # fmt: skip


NAMES = ["one-child", "same-queue", "no-child", "three-levels", "children-of-all-kinds", "parent-with-options",
    "policies"]  # fmt: skip


@pytest.mark.wire(82)
@pytest.mark.parametrize("name", NAMES)
async def test_adding(peer: Peer, ours: EngineQueue, upper: EngineQueue, name: str) -> None:
    given = trees(upper, ours)[name]
    producer = await peer.flows()
    await producer.call("add", given)
    theirs = flow_trees.dump_and_clear(ours)
    await flow_trees.add(ours.connection, given)
    assert flow_trees.dump(ours) == theirs


async def test_adding_several_at_once(peer: Peer, ours: EngineQueue, upper: EngineQueue) -> None:
    given = [tree(upper, "p", tree(ours, "a"), tree(ours, "b")), tree(upper, "q", tree(ours, "c"))]
    producer = await peer.flows()
    await producer.call("addBulk", given)
    theirs = flow_trees.dump_and_clear(ours)
    assert await flow_trees.add(ours.connection, *given) == ["p", "q"]
    assert flow_trees.dump(ours) == theirs


POLICIES: dict[str, dict[str, Any]] = {
    "none": {}, "fpof": {"failParentOnFailure": True}, "cpof": {"continueParentOnFailure": True},
    "idof": {"ignoreDependencyOnFailure": True}, "rdof": {"removeDependencyOnFailure": True},
}  # fmt: skip
SCENES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    # what is special: (options of the parent, options of the child, whether another child is pending)
    "alone": ({}, {}, False),
    "with-a-sibling": ({}, {}, True),
    "not-kept": ({}, {"removeOnFail": True}, False),
    "delayed-parent": ({"delay": 60_000}, {}, False),
    "prioritized-parent": ({"priority": 4}, {}, False),
}


async def work(side: str, peer: Peer, queue: EngineQueue, *, jobs: int = 1) -> None:
    """Have so many jobs of the queue worked off, by a worker of BullMQ or by our engine."""
    if side == "ours":
        taken = await queue.take()
        for left in reversed(range(jobs)):
            (job,) = taken
            taken = await queue.finish(end_of(job), take=1)
            assert bool(taken) == bool(left)
        return
    worker = await peer.worker(name="worker-1")

    async def is_over() -> bool:
        return sum(event["event"] in ("completed", "retries-exhausted") for event in queue.events()) == jobs

    await wait_until_async(is_over, f"{jobs} jobs ended by their worker", interval_seconds=0.005)
    await worker.close()


def end_of(job: TakenJob) -> Finish:
    """What BullMQ's worker makes of it."""
    rules = outcomes.RuleBook().of(job)
    if job.deferred_failure:
        return outcomes.failed(job, errors.UnrecoverableError(job.deferred_failure), rules, float)
    if job.name == "fail":
        return outcomes.failed(job, ValueError(job.data["message"]), rules, float)
    return outcomes.completed(job, job.data, rules)


@pytest.mark.wire(75)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
async def test_a_child_fails(
    peer: Peer, ours: EngineQueue, upper: EngineQueue, policy: dict[str, Any],
    scene: tuple[dict[str, Any], dict[str, Any], bool],
) -> None:  # fmt: skip
    parent_opts, child_opts, has_sibling = scene
    siblings = [tree(upper, "b")] if has_sibling else []
    child = tree(ours, "a", name="fail", data={"message": "no"}, **child_opts, **policy)
    dumps = []
    for side in ("theirs", "ours"):
        await flow_trees.add(ours.connection, tree(upper, "p", child, *siblings, **parent_opts))
        await work(side, peer, ours)
        dumps.append(flow_trees.dump_and_clear(ours))
    assert dumps[1] == dumps[0]


@pytest.mark.wire(73, 77)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
async def test_a_child_completes(
    peer: Peer, ours: EngineQueue, upper: EngineQueue, scene: tuple[dict[str, Any], dict[str, Any], bool]
) -> None:
    parent_opts, _, has_sibling = scene
    siblings = [tree(upper, "b")] if has_sibling else []
    dumps = []
    for side in ("theirs", "ours"):
        await flow_trees.add(
            ours.connection, tree(upper, "p", tree(ours, "a", data={"n": "ü"}), *siblings, **parent_opts)
        )
        await work(side, peer, ours)
        dumps.append(flow_trees.dump_and_clear(ours))
    assert dumps[1] == dumps[0]


SIDES = [("theirs", "theirs"), ("theirs", "ours"), ("ours", "theirs"), ("ours", "ours")]
"""Who works the queue of the children, and who that of the parents."""


@pytest.mark.wire(75)
@pytest.mark.parametrize("policy", ["fpof", "cpof", "idof", "rdof"])
async def test_a_parent_ends_after_a_failed_child(
    peer: Peer, upper_peer: Peer, ours: EngineQueue, upper: EngineQueue, policy: str
) -> None:
    child = tree(ours, "a", name="fail", data={"message": "no"}, **POLICIES[policy])
    dumps = []
    for lower_side, upper_side in SIDES:
        await flow_trees.add(ours.connection, tree(upper, "p", child))
        await work(lower_side, peer, ours)
        await work(upper_side, upper_peer, upper)
        assert upper.places() == {"failed" if policy == "fpof" else "completed": ["p"]}
        dumps.append(flow_trees.dump_and_clear(ours))
    assert dumps[1:] == dumps[:1] * 3


@pytest.mark.wire(76)
async def test_a_failure_goes_up_three_levels(
    peer: Peer, upper_peer: Peer, ours: EngineQueue, upper: EngineQueue
) -> None:
    up = POLICIES["fpof"]
    lowest = tree(ours, "a", name="fail", data={"message": "no"}, **up)
    dumps = []
    for lower_side, upper_side in SIDES:
        await flow_trees.add(ours.connection, tree(upper, "p", tree(upper, "m", tree(ours, "l", lowest, **up), **up)))
        await work(lower_side, peer, ours, jobs=2)
        await work(upper_side, upper_peer, upper, jobs=2)
        assert upper.hash("p")["failedReason"] == f"child {upper.keys.job('m')} failed"
        dumps.append(flow_trees.dump_and_clear(ours))
    assert dumps[1:] == dumps[:1] * 3


@pytest.mark.wire(79)
@pytest.mark.parametrize("has_sibling", [False, True], ids=["alone", "with-a-sibling"])
async def test_a_child_that_completed_before(
    peer: Peer, ours: EngineQueue, upper: EngineQueue, version: str, has_sibling: bool
) -> None:
    """BullMQ 5 lets the parent go too early: before the rest of its children is there."""
    siblings = [tree(upper, "b")] if has_sibling else []
    producer = await peer.flows()
    dumps = []
    for side in ("theirs", "ours"):
        await ours.add("echo", {"n": 1}, jobId="a", timestamp=flow_trees.NOW_MS)
        await work("ours", peer, ours)
        given = tree(upper, "p", tree(ours, "a", data={"other": 2}), *siblings)
        if side == "theirs":
            await producer.call("add", given)
        else:
            await flow_trees.add(ours.connection, given)
            assert upper.raw.hgetall(upper.keys.job("p") + ":processed") == {ours.keys.job("a"): '{"n":1}'}
            places = {"wait": ["b"], "waiting-children": ["p"]} if has_sibling else {"wait": ["p"]}
            assert upper.places() == places
        dumps.append(flow_trees.dump_and_clear(ours))
    if version == "6" or not has_sibling:
        assert dumps[1] == dumps[0]


@pytest.mark.wire(80)
async def test_a_child_of_another_parent_is_refused(peer: Peer, ours: EngineQueue, upper: EngineQueue) -> None:
    producer = await peer.flows()
    await producer.call("add", tree(upper, "p", tree(ours, "a")))
    before = flow_trees.dump(ours)
    with pytest.raises(errors.ParentConflictError, match=r"job a belongs to another parent than bull:.*-up:q"):
        await flow_trees.add(ours.connection, tree(upper, "q", tree(ours, "new"), tree(ours, "a")))
    assert flow_trees.dump(ours) == before
    # A second flow may not take it from the first in the same call either; and whose parent is gone may be taken.
    with pytest.raises(errors.ParentConflictError):
        await flow_trees.add(ours.connection, tree(upper, "q", tree(ours, "b")), tree(upper, "r", tree(ours, "b")))
    assert flow_trees.dump(ours) == before
    upper.raw.delete(upper.keys.job("p"))
    assert await flow_trees.add(ours.connection, tree(upper, "q", tree(ours, "a"))) == ["q"]
    assert ours.hash("a")["parentKey"] == upper.keys.job("q")


@pytest.mark.wire(78, 80)
async def test_adding_a_child_to_a_job(peer: Peer, ours: EngineQueue, upper: EngineQueue) -> None:
    """To a running job, to one that has ended, again to the same, and to one that is not there."""
    dumps = []
    for side in ("theirs", "ours"):
        await upper.add(jobId="p", timestamp=flow_trees.NOW_MS)
        await upper.add(jobId="q", timestamp=flow_trees.NOW_MS)
        assert [job.id for job in await upper.take(2)] == ["p", "q"]
        add = peer.queue.add if side == "theirs" else ours.add
        link = {"id": "p", "queue": upper.keys.qualified_name}
        for opts in ({"jobId": "a", "priority": 2}, {"jobId": "a"}, {"jobId": "b", "failParentOnFailure": True}, {}):
            await add("echo", {"n": 1}, timestamp=flow_trees.NOW_MS, parent=link, **opts)
        for other in ("q", "none"):
            with pytest.raises((PeerError, errors.ParentConflictError, errors.ParentNotFoundError), match=other):
                await add("echo", {}, jobId="a", timestamp=flow_trees.NOW_MS, parent={**link, "id": other})
        dump = flow_trees.dump_and_clear(ours)
        # A refused job's number is not used again by us.
        dump.pop(ours.keys.id)
        dumps.append(dump)
    assert dumps[1] == dumps[0]
