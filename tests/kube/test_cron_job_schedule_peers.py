"""A CronJobSchedule as BullMQ's own clients see it, and carried on by BullMQ's own workers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support import node_peer
from support.job_queues import CronJobSchedules, JobQueues, job_queue
from support.node_peer import NodePeer, Peer
from support.operator_process import OperatorProcess
from support.stored_schedules import StoredSchedules
from support.waiting import wait_until

_REASON = node_peer.reason_not_to_run()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))

TICK_MS = 3000
"""Longer than a machine stands still: BullMQ passes over slots that are over when it looks."""


@pytest.fixture(params=["5", "6"], ids=["bullmq5", "bullmq6"])
async def peer(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Peer]:
    """BullMQ's view of the queue `email`, by major version, in a Node process of its own."""
    opened = Peer(NodePeer(str(request.param)), redis_url, "email", owns_node=True)
    await opened.start()
    yield opened
    await opened.close()


@pytest.mark.requirement("B-19", "T108")
async def test_bullmq_lists_them_and_its_workers_carry_them_on(
    operator: OperatorProcess, queues: JobQueues, schedules: CronJobSchedules, redis_url: str, peer: Peer
) -> None:
    queues.create(job_queue("email", redis_url, worker={"mode": "None"}))
    schedules.create("health-check", every=300_000, offset=1000, jobTemplate={"data": {"deep": True}})
    schedules.create("nightly", schedule="0 2 * * *", timeZone="Europe/Berlin")
    schedules.create("tick", every=TICK_MS, jobTemplate={"name": "echo", "data": {"n": 1}})
    for name in ("health-check", "nightly", "tick"):
        schedules.wait_reason(name, "Ready", "True/Scheduled")
    prefix = schedules.namespace
    listed = {each["key"].removeprefix(f"{prefix}."): each for each in await peer.queue.call("getJobSchedulers")}
    assert set(listed) == {"health-check", "nightly", "tick"}
    every, nightly = listed["health-check"], listed["nightly"]
    assert (every["name"], every["every"], every["offset"]) == ("health-check", 300_000, 1000)
    assert every["next"] % 300_000 == 1000
    assert every["template"]["data"] == {"deep": True}
    assert (nightly["name"], nightly["pattern"], nightly["tz"]) == ("nightly", "0 2 * * *", "Europe/Berlin")

    # Both of us advance `tick` from here on: every slot has one job, and each is run once.
    worker = await peer.worker()
    runs = [run for run in await worker.runs_until(3) if run["name"] == "echo"]
    ran = [int(run["id"].rpartition(":")[2]) for run in runs]
    assert ran == list(range(ran[0], ran[-1] + 1, TICK_MS))
    with StoredSchedules(redis_url, prefix) as stored:
        made = stored.slots("tick")
        assert made == list(range(made[0], made[-1] + 1, TICK_MS))
        schedules.delete("tick")
        wait_until(lambda: schedules.is_gone("tick"), "the schedule to go")
        assert stored.record("tick") == {}
    assert len(await peer.queue.call("getJobSchedulers")) == 2
