"""Flows: what adding them, their children's ends and a parent's own wishes do, in one queue and across queues."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import flow_trees
from support.engine import EngineQueue, open_queue
from support.flow_trees import tree
from toril import clock, errors
from toril.engine import flows, operations, scripts
from toril.engine.flows import JobTree, Node
from toril.engine.worker import Finish
from toril.jobs.job import JobState, NewJob
from toril.jobs.options import JobOptions
from toril.jobs.retention import KeepPolicy


@pytest.fixture
async def upper(redis_url: str, queue_name: str) -> AsyncIterator[EngineQueue]:
    """The queue of the parents."""
    async with open_queue(redis_url, queue_name + "-up") as opened:
        yield opened


async def fail(queue: EngineQueue, **options: Any) -> None:
    """End the next job of the queue as failed."""
    await queue.finish(Finish.failed(await queue.take_one(), "no", "[]", **options))


async def complete(queue: EngineQueue) -> None:
    job = await queue.take_one()
    await queue.finish(Finish.completed(job, json.dumps(f"done {job.id}")))


async def read_tree(queue: EngineQueue, job_id: str, *, depth: int, max_children: int) -> JobTree | None:
    return await operations.execute(
        queue.connection, flows.tree(queue.keys, job_id, depth=depth, max_children=max_children)
    )


def marker(queue: EngineQueue) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True)
    return found


# ---- adding


async def test_jobs_without_an_id_get_a_uuid_which_is_not_one_of_their_options(queue: EngineQueue) -> None:
    child = Node(queue.keys, NewJob.create("c", 1, JobOptions()))
    (parent_id,) = await operations.execute(
        queue.connection, flows.add([Node(queue.keys, NewJob.create("p", 1, JobOptions()), [child])])
    )
    (child_id,) = queue.places()["wait"]
    assert {uuid.UUID(parent_id).version, uuid.UUID(child_id).version} == {4}
    assert json.loads(queue.hash(parent_id)["opts"]) == {"attempts": 0}
    link = {"id": parent_id, "queue": queue.keys.qualified_name}
    assert json.loads(queue.hash(child_id)["opts"]) == {"attempts": 0, "parent": link}
    assert queue.raw.get(queue.keys.id) == "2"


async def test_a_flow_under_a_parent_that_is_not_there_is_refused(queue: EngineQueue, upper: EngineQueue) -> None:
    link = {"id": "none", "queue": upper.keys.qualified_name}
    given = tree(queue, "p", tree(queue, "a"), parent=link)
    with pytest.raises(errors.ParentNotFoundError, match=f"there is no parent job {upper.keys.job('none')}"):
        await flow_trees.add(queue.connection, given)
    assert queue.raw.keys("*") == []


async def test_a_key_of_another_type_refuses_the_whole_flow(queue: EngineQueue, upper: EngineQueue) -> None:
    upper.raw.set(upper.keys.waiting_children, "x")
    with pytest.raises(errors.WrongKeyTypeError):
        await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
    assert queue.raw.keys("*") == [upper.keys.waiting_children]


@pytest.mark.parametrize("where", ["parent", "child"])
async def test_no_deduplication_in_flows(queue: EngineQueue, where: str) -> None:
    options: dict[str, Any] = {"deduplication": {"id": "x"}}
    given = {
        "parent": tree(queue, "p", tree(queue, "a"), **options),
        "child": tree(queue, "p", tree(queue, "a", **options)),
    }
    with pytest.raises(errors.InvalidOptionError) as caught:
        await flow_trees.add(queue.connection, given[where])
    assert caught.value.field == "deduplication"


async def test_other_children_of_a_call_are_added_when_one_is_refused(queue: EngineQueue) -> None:
    link = {"id": "none", "queue": queue.keys.qualified_name}
    jobs = [NewJob.create("n", 1, JobOptions.from_bullmq(opts)) for opts in ({"parent": link}, {"jobId": "b"})]
    with pytest.raises(errors.ParentNotFoundError):
        await queue.producer.add(jobs)
    assert queue.places() == {"wait": ["b"]}


# ---- children end


async def test_a_parent_is_released_into_its_own_queue(queue: EngineQueue, upper: EngineQueue) -> None:
    await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a"), tree(queue, "b")), tree(upper, "q"))
    upper.raw.delete(upper.keys.marker)
    await complete(queue)
    assert (upper.places(), marker(upper)) == ({"wait": ["q"], "waiting-children": ["p"]}, [])
    await complete(queue)
    # In front of what waits there, and told to its workers.
    assert (upper.places(), marker(upper)) == ({"wait": ["p", "q"]}, [("0", 0.0)])
    assert upper.events()[-1] == {"event": "waiting", "jobId": "p", "prev": "waiting-children"}
    found = await upper.connection.run(scripts.read_children(upper.keys, "p"))
    assert (dict(found.values), found.pending) == (
        {queue.keys.job("a"): "done a", queue.keys.job("b"): "done b"}, [],
    )  # fmt: skip


@pytest.mark.requirement("Z-45")
async def test_a_released_parent_obeys_its_delay_and_priority(queue: EngineQueue, upper: EngineQueue) -> None:
    late, first = tree(queue, "a"), tree(queue, "b")
    await flow_trees.add(queue.connection, tree(upper, "p", late, delay=5000), tree(upper, "q", first, priority=3))
    before = clock.now_ms()
    await complete(queue)
    await complete(queue)
    assert upper.places() == {"delayed": ["p"], "prioritized": ["q"]}
    due_ms = upper.raw.zscore(upper.keys.delayed, "p") / 4096
    assert before + 5000 <= due_ms <= clock.now_ms() + 5000
    assert ("1", due_ms) in marker(upper)
    delayed = [event for event in upper.events() if event["event"] == "delayed"]
    assert delayed == [{"event": "delayed", "jobId": "p", "delay": str(int(due_ms))}]


@pytest.mark.parametrize("layout", ["5", "6"])
async def test_a_parent_of_a_paused_queue(redis_url: str, queue_name: str, layout: Any) -> None:
    async with open_queue(redis_url, queue_name, layout) as queue, open_queue(redis_url, "up", layout) as upper:
        await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
        await upper.producer.pause()
        await complete(queue)
        assert upper.places() == ({"paused": ["p"]} if layout == "5" else {"wait": ["p"]})
        assert marker(upper) == []


async def test_a_parent_of_a_queue_that_runs_all_it_may(queue: EngineQueue, upper: EngineQueue) -> None:
    await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")), tree(upper, "q"))
    upper.raw.hset(upper.keys.meta, "concurrency", 1)
    await upper.take()
    upper.raw.delete(upper.keys.marker)
    await complete(queue)
    assert (upper.places(), marker(upper)) == ({"active": ["q"], "wait": ["p"]}, [])


async def test_trimming_a_failed_child_frees_its_parent(queue: EngineQueue, upper: EngineQueue) -> None:
    await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
    await fail(queue)
    assert upper.places() == {"waiting-children": ["p"]}
    await queue.add(jobId="b")
    await fail(queue, keep=KeepPolicy(count=1))
    assert (queue.places(), upper.places()) == ({"failed": ["b"]}, {"wait": ["p"]})
    assert upper.raw.exists(upper.keys.job("p") + ":dependencies") == 0


async def test_ids_with_colons(queue: EngineQueue, upper: EngineQueue) -> None:
    """As those of a job scheduler's runs are."""
    await flow_trees.add(queue.connection, tree(upper, "x:p:1", tree(queue, "x:a:1"), tree(queue, "x:b:1")))
    await complete(queue)
    await fail(queue, keep=KeepPolicy(count=0))
    assert upper.places() == {"wait": ["x:p:1"]}
    found = await read_tree(upper, "x:p:1", depth=2, max_children=9)
    assert found is not None
    assert [(child.queue, child.job.id) for child in found.children] == [(queue.keys.queue, "x:a:1")]


async def test_nonsense_in_the_links_of_a_job_stops_nobody(queue: EngineQueue) -> None:
    for job_id, parent in (
        ("a", "{"),
        ("b", '{"id":7}'),
        ("c", "null"),
        ("d", '{"id":"p","queueKey":"x","fpof":null}'),
    ):
        await queue.add(jobId=job_id)
        queue.raw.hset(queue.keys.job(job_id), mapping={"parentKey": "nowhere", "parent": parent})
        await fail(queue)
    assert queue.places() == {"failed": ["a", "b", "c", "d"]}


@pytest.mark.parametrize("part", ["wait", "waiting-children", "events", "p:processed", "p:dependencies"])
async def test_a_parent_whose_keys_are_of_another_type_harms_no_child(
    queue: EngineQueue, upper: EngineQueue, part: str
) -> None:
    await flow_trees.add(queue.connection, tree(upper, "p", tree(queue, "a")))
    await queue.add(jobId="b")
    upper.raw.delete(upper.keys.base + part)
    upper.raw.set(upper.keys.base + part, "x")
    ends = [Finish.completed(job, "1") for job in await queue.take(2)]
    assert (await queue.active.finish_and_take(ends, 0, queue.token())).codes == [0, 0]
    assert queue.places() == {"completed": ["a", "b"]}


# ---- refused ends


async def test_a_parent_does_not_complete_before_its_children(queue: EngineQueue) -> None:
    await queue.add(jobId="p")
    parent = await queue.take_one()
    link = {"id": "p", "queue": queue.keys.qualified_name}
    await queue.add(jobId="a", parent=link, failParentOnFailure=True)
    before = flow_trees.dump(queue)
    done = Finish.completed(parent, "1")
    assert (await queue.active.finish_and_take([done], 0, queue.token())).codes == [-4]
    assert flow_trees.dump(queue) == before
    await fail(queue)
    assert queue.hash("p")["defa"] == f"child {queue.keys.job('a')} failed"
    assert (await queue.active.finish_and_take([done], 0, queue.token())).codes == [-9]
    waiting = Finish.wait_for_children(parent)
    assert (await queue.active.finish_and_take([waiting], 0, queue.token())).codes == [-9]
    assert queue.places() == {"active": ["p"], "failed": ["a"]}


# ---- asked for by the processor


async def test_a_job_that_waits_for_its_children(queue: EngineQueue) -> None:
    await queue.add(jobId="p")
    parent = await queue.take_one()
    await queue.add(jobId="a", parent={"id": "p", "queue": queue.keys.qualified_name})
    waiting = Finish.wait_for_children(parent)
    await queue.finish(waiting)
    assert queue.places() == {"wait": ["a"], "waiting-children": ["p"]}
    assert queue.events()[-1] == {"event": "waiting-children", "jobId": "p", "prev": "active"}
    assert (await queue.active.finish_and_take([waiting], 0, queue.token())).codes == [-2]
    assert queue.raw.exists(queue.keys.lock("p")) == 0
    await complete(queue)
    again = await queue.take_one()
    assert (again.id, again.attempts_made, again.attempts_started) == ("p", 0, 2)
    await queue.finish(Finish.completed(again, "1"))


async def test_waiting_for_children_that_have_just_ended(queue: EngineQueue) -> None:
    """Its last child ended between the processor's look and its own end: it runs again at once, in the same call."""
    await queue.add(jobId="p")
    parent = await queue.take_one()
    (again,) = await queue.finish(Finish.wait_for_children(parent), take=1)
    assert (again.id, again.attempts_made) == ("p", 0)
    told = [(event["event"], event.get("prev")) for event in queue.events()[-3:]]
    assert told == [("waiting-children", "active"), ("waiting", "waiting-children"), ("active", "waiting")]


async def test_a_job_that_waits_for_a_time(queue: EngineQueue) -> None:
    await queue.add(jobId="a", attempts=2)
    before = clock.now_ms()
    await queue.finish(Finish.delay(await queue.take_one(), 60_000))
    assert queue.places() == {"delayed": ["a"]}
    due_ms = queue.raw.zscore(queue.keys.delayed, "a") / 4096
    assert before + 60_000 <= due_ms <= clock.now_ms() + 60_000
    assert marker(queue)[-1] == ("1", due_ms)
    assert queue.events()[-1] == {"event": "delayed", "jobId": "a", "delay": str(int(due_ms))}
    stored = queue.hash("a")
    assert (stored["delay"], stored.get("atm"), stored.get("failedReason")) == ("60000", None, None)


async def test_a_key_of_another_type_leaves_the_job_running(queue: EngineQueue) -> None:
    await queue.add(jobId="a")
    job = await queue.take_one()
    queue.raw.set(queue.keys.waiting_children, "x")
    with pytest.raises(errors.WrongKeyTypeError):
        await queue.active.finish_and_take([Finish.wait_for_children(job)], 0, queue.token())
    assert queue.raw.lrange(queue.keys.active, 0, -1) == ["a"]
    assert queue.raw.exists(queue.keys.lock("a")) == 1


async def test_a_job_that_says_that_the_rate_limit_is_reached(queue: EngineQueue) -> None:
    for job_id in ("a", "b"):
        await queue.add(jobId=job_id)
    job = await queue.take_one()
    reply = await queue.active.finish_and_take([Finish.limit(job, 60_000)], 1, queue.token())
    assert (reply.codes, reply.taken.jobs) == ([0], [])
    assert 50_000 < reply.taken.rate_limit_ms <= 60_000
    assert queue.places() == {"wait": ["a", "b"]}
    assert queue.raw.get(queue.keys.limiter) == str(2**53 - 1)
    assert "atm" not in queue.hash("a")
    # Without a time of its own: what was said before.
    queue.raw.pexpire(queue.keys.limiter, 30_000)
    reply = await queue.active.finish_and_take([Finish.limit(await queue.take_one(), 0)], 1, queue.token())
    assert 0 < reply.taken.rate_limit_ms <= 30_000


async def test_states_of_a_tree(queue: EngineQueue, upper: EngineQueue) -> None:
    below = tree(queue, "m", tree(upper, "x"), tree(upper, "y"))
    await flow_trees.add(queue.connection, tree(upper, "p", below, tree(queue, "a")))
    found = await read_tree(upper, "p", depth=10, max_children=20)
    assert found is not None
    assert (found.state, {child.job.id: child.state for child in found.children}) == (
        JobState.WAITING_CHILDREN, {"m": JobState.WAITING_CHILDREN, "a": JobState.WAITING},
    )  # fmt: skip
    (middle,) = [child for child in found.children if child.job.id == "m"]
    assert sorted(child.job.id for child in middle.children) == ["x", "y"]
    short = await read_tree(upper, "p", depth=2, max_children=1)
    assert short is not None
    assert [child.children for child in short.children] == [[]]
    assert await read_tree(upper, "none", depth=2, max_children=1) is None
