"""Trace context goes with jobs: to the children that a running job adds, not to the next run of a schedule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue

TRACE = '{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}'


async def test_a_task_reads_what_its_producer_gave(tasks: Queue, worker: StartWorker) -> None:
    @tasks.task
    async def look(*, job: Job = Job.current()) -> Any:
        return job.opts.get("telemetry")

    async with worker(tasks):
        telemetry = {"metadata": TRACE, "omitContext": False}
        assert await (await look.options(telemetry=telemetry).enqueue()).result(30) == telemetry
        assert await (await tasks.add("look", {}, {"telemetry": {"omitContext": True}})).result(30) == {
            "omitContext": True
        }
        assert await (await look.enqueue()).result(30) is None


@pytest.mark.parametrize(
    ("of_parent", "of_child", "expected"),
    [
        ({"tm": TRACE}, {}, {"tm": TRACE}),
        ({"tm": TRACE}, {"telemetry": {"metadata": "own"}}, {"tm": "own"}),
        ({"tm": TRACE}, {"telemetry": {"omitContext": True}}, {"omc": True}),
        ({"tm": {"no": "text"}}, {}, {}),
        ({}, {}, {}),
    ],
    ids=["taken-over", "of-its-own", "omitted", "no-text", "none"],
)
@pytest.mark.parametrize("is_threaded", [False, True], ids=["async", "thread"])
async def test_children_take_over_the_trace_of_the_job_that_adds_them(
    tasks: Queue,
    stored: EngineQueue,
    worker: StartWorker,
    of_parent: dict[str, Any],
    of_child: dict[str, Any],
    expected: dict[str, Any],
    is_threaded: bool,
) -> None:
    added: list[str] = []

    if is_threaded:

        @tasks.task
        def split(*, job: Job = Job.current()) -> None:
            if not added:
                added.append(job.sync.add_child(tasks.draft("part", {}, of_child)).id)
            job.sync.move_to_waiting_children()

    else:

        @tasks.task(name="split")
        async def split_async(*, job: Job = Job.current()) -> None:
            if not added:
                added.append((await job.add_child(tasks.draft("part", {}, of_child))).id)
            await job.move_to_waiting_children()

    @tasks.task
    async def part() -> None: ...

    stored.raw.hset(
        stored.keys.job("p"),
        mapping={
            "name": "split",
            "data": "{}",
            "opts": json.dumps(of_parent),
            "timestamp": 1,
            "delay": 0,
            "priority": 0,
        },
    )
    stored.raw.lpush(stored.keys.wait, "p")
    async with worker(tasks):
        await tasks.handle("p").result(30)
    opts = json.loads(stored.hash(added[0])["opts"])
    assert {name: opts[name] for name in ("tm", "omc") if name in opts} == expected


async def test_each_run_of_a_schedule_begins_a_trace_of_its_own(
    tasks: Queue, stored: EngineQueue, worker: StartWorker
) -> None:
    """BullMQ's runs stay in the first one's for ever."""

    @tasks.task
    async def step() -> None: ...

    first = await tasks.schedulers.upsert("s", every=3600, draft=step.options(telemetry={"metadata": TRACE}).draft())
    assert json.loads(stored.hash(first.id)["opts"])["tm"] == TRACE
    async with worker(tasks):
        await first.result(30)
        (second,) = await wait_until_async(lambda: delayed(stored), "the next run")
    assert second != first.id
    opts = json.loads(stored.hash(second)["opts"])
    assert "tm" not in opts
    assert opts["repeat"]["count"] == 2


async def delayed(stored: EngineQueue) -> list[str]:
    return stored.places().get("delayed", [])
