"""Flows from end to end, with our API and our workers on one side and BullMQ's on the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import worker_inside
from support.node_peer import Peer
from toril import Job, JobFailedError, JobHandle, Queue, flow


@pytest.fixture
async def parents(redis_url: str, queue_name: str) -> AsyncIterator[Queue]:
    async with Queue(queue_name + "-up", url=redis_url) as queue:
        yield queue


@pytest.fixture
async def children(redis_url: str, queue_name: str) -> AsyncIterator[Queue]:
    async with Queue(queue_name, url=redis_url) as queue:
        yield queue


def serve(queue: Queue) -> None:
    """Tasks under the names of the driver's processors."""

    @queue.default
    async def run(job: Job) -> Any:
        if job.name == "fail":
            raise ValueError(job.data["message"])
        return dict(await job.children_values()) if job.name == "childrenValues" else job.data


@pytest.mark.requirement("Z-45")
@pytest.mark.wire(73)
async def test_our_flow_worked_by_them(peer: Peer, upper_peer: Peer, parents: Queue, children: Queue) -> None:
    values: list[Any] = [None, "ünï 🎉", {"a": [1, 2.5]}]
    drafts = [children.draft("echo", value, {"jobId": f"child-{index}"}) for index, value in enumerate(values)]
    handle = await flow(parents.draft("childrenValues", {}), drafts).enqueue()
    await peer.worker(concurrency=3)
    await upper_peer.worker()
    found = await handle.result(30)
    assert found == {children.keys.job(f"child-{index}"): value for index, value in enumerate(values)}


@pytest.mark.requirement("Z-45")
@pytest.mark.wire(74)
async def test_their_flow_worked_by_us(peer: Peer, upper_peer: Peer, parents: Queue, children: Queue) -> None:
    serve(parents)
    serve(children)
    producer = await peer.flows()
    leaves = [
        {"name": "echo", "queueName": children.name, "data": number, "opts": {"jobId": f"child-{number}"}}
        for number in range(3)
    ]
    middle = {"name": "childrenValues", "queueName": children.name, "opts": {"jobId": "middle"}, "children": leaves[1:]}
    root = {"name": "childrenValues", "queueName": parents.name, "children": [leaves[0], middle]}
    added = await producer.call("add", root)
    events = await upper_peer.listener()
    async with worker_inside.running(children, concurrency=2), worker_inside.running(parents):
        found = await upper_peer.finished(events, added["job"]["id"])
    key = children.keys.job
    assert found == {key("child-0"): 0, key("middle"): {key("child-1"): 1, key("child-2"): 2}}


@pytest.mark.wire(75, 76)
@pytest.mark.parametrize("children_by", ["us", "them"])
async def test_a_failure_that_fails_the_parent(
    peer: Peer, upper_peer: Peer, parents: Queue, children: Queue, children_by: str
) -> None:
    """The parent is failed without being run, by the other side."""
    serve(parents)
    serve(children)
    up = {"failParentOnFailure": True}
    leaf = children.draft("fail", {"message": "broken"}, {"jobId": "leaf", **up})
    handle = await flow(
        parents.draft("echo", {}), [flow(children.draft("echo", {}, {"jobId": "m", **up}), [leaf])]
    ).enqueue()
    if children_by == "us":
        runs = await upper_peer.worker()
        async with worker_inside.running(children):
            await _expect_failure(handle, f"child {children.keys.job('m')} failed")
        assert await runs.runs() == []
    else:
        runs = await peer.worker()
        async with worker_inside.running(parents):
            await _expect_failure(handle, f"child {children.keys.job('m')} failed")
        assert [run["id"] for run in await runs.runs()] == ["leaf"]
    middle = await peer.queue.job("m")
    assert middle["failedReason"] == f"child {children.keys.job('leaf')} failed"


async def _expect_failure(handle: JobHandle[Any], reason: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        await handle.result(30)
    assert str(caught.value) == reason


@pytest.mark.wire(57, 78)
@pytest.mark.parametrize("parent_by", ["us", "them"])
async def test_a_running_parent_adds_children_for_the_other_side(
    peer: Peer, upper_peer: Peer, parents: Queue, children: Queue, parent_by: str
) -> None:
    serve(children)
    if parent_by == "us":

        @parents.task(name="addChildren")
        async def add_children(
            url: str, queue: str, added: bool = False, *, job: Job = Job.current()
        ) -> dict[str, Any]:
            if not added:
                for n in (1, 2):
                    await job.add_child(children.draft("echo", {"n": n}))
                await job.update_data({"url": url, "queue": queue, "added": True})
            await job.move_to_waiting_children()
            return dict(await job.children_values())

        async with worker_inside.running(parents):
            handle = await parents.add("addChildren", {"url": peer.url, "queue": children.name})
            await upper_peer.until_state(handle.id, "waiting-children")
            await peer.worker()
            found = await handle.result(30)
    else:
        await upper_peer.worker()
        handle = await parents.add("addChildren", {"url": peer.url, "queue": children.name})
        await upper_peer.until_state(handle.id, "waiting-children")
        async with worker_inside.running(children):
            found = await handle.result(30)
    assert sorted(value["n"] for value in found.values()) == [1, 2]
    record = await handle.job()
    assert (record.attempts_made, record.attempts_started) == (1, 2)


@pytest.mark.wire(24)
async def test_a_parent_that_returns_too_early(upper_peer: Peer, parents: Queue, children: Queue) -> None:
    """Both fail it, and try again if there are attempts left."""
    link = {"id": "p", "queue": parents.keys.qualified_name}
    serve(parents)
    upper_peer.expected_error = "has pending dependencies"
    told = []
    for side in ("them", "us"):
        await parents.add("echo", {}, {"jobId": "p", "attempts": 2})
        await children.add("echo", {}, {"parent": link})
        if side == "them":
            worker = await upper_peer.worker(name="worker")
            record = await upper_peer.until_state("p", "failed")
            await worker.close()
        else:
            async with worker_inside.running(parents, name="worker"):
                record = await upper_peer.until_state("p", "failed")
        told.append((record["attemptsMade"], record["attemptsStarted"], len(record["stacktrace"])))
        await parents.handle("p").remove()
    assert told == [(2, 2, 2)] * 2


@pytest.mark.wire(82)
async def test_what_they_read_of_our_flow(peer: Peer, upper_peer: Peer, parents: Queue, children: Queue) -> None:
    """The same as of their own, and as we read it."""
    serve(children)
    producer = await peer.flows()
    policies = {
        "ok": {},
        "fpof": {"failParentOnFailure": True},
        "idof": {"ignoreDependencyOnFailure": True},
        "none": {},
    }

    def name_of(kind: str) -> str:
        return "echo" if kind == "ok" else "fail"

    theirs = {"name": "p", "queueName": parents.name, "opts": {"jobId": "theirs"}, "children": [
        {"name": name_of(kind), "queueName": children.name, "data": {"message": "no"},
         "opts": {"jobId": f"theirs-{kind}", **options}}
        for kind, options in policies.items()
    ]}  # fmt: skip
    await producer.call("add", theirs)
    drafts = [
        children.draft(name_of(kind), {"message": "no"}, {"jobId": f"ours-{kind}", **options})
        for kind, options in policies.items()
    ]
    handle = await flow(parents.draft("p", {}, {"jobId": "ours"}), drafts).enqueue()
    async with worker_inside.running(children):
        for side in ("theirs", "ours"):
            for kind in policies:
                await peer.until_state(f"{side}-{kind}", "completed" if kind == "ok" else "failed")

    reads = []
    for side in ("theirs", "ours"):
        dependencies = await upper_peer.queue.job(side, "getDependencies")
        tree = await producer.call("getFlow", {"id": side, "queueName": parents.name})
        below = sorted((child["job"]["id"], child["job"]["parentKey"]) for child in tree["children"])
        reads.append(str([sorted(dependencies.items()), below]).replace(side, "side"))
    assert reads[1] == reads[0]
    found = await handle.children()
    key = children.keys.job
    assert (dict(found.values), dict(found.ignored)) == ({key("ours-ok"): {"message": "no"}}, {key("ours-idof"): "no"})
    assert (found.failed, found.pending) == ([key("ours-fpof")], [key("ours-none")])
    ours = await handle.tree()
    assert sorted(child.job.id for child in ours.children) == sorted(f"ours-{kind}" for kind in policies)


@pytest.mark.wire(56, 57)
@pytest.mark.parametrize("how", ["later", "again"])
async def test_a_job_that_we_put_back_is_run_by_them(peer: Peer, children: Queue, how: str) -> None:
    ran = asyncio.Event()

    @children.task(name="echo")
    async def put_back(n: int, job: Job = Job.current()) -> None:
        worker.stop()
        ran.set()
        if how == "later":
            job.move_to_delayed(3600)
        job.move_to_wait()

    handle = await children.add("echo", {"n": 1}, {"attempts": 2})
    async with worker_inside.running(children) as worker:
        await ran.wait()
    assert await handle.state() == ("delayed" if how == "later" else "waiting")
    assert (await peer.queue.job(handle.id))["attemptsMade"] == 0
    await peer.worker()
    if how == "later":
        await peer.queue.job(handle.id, "changeDelay", 100)
    assert await handle.result(30) == {"n": 1}
    record = await peer.queue.job(handle.id)
    assert (record["attemptsMade"], record["attemptsStarted"]) == (1, 2)
