"""What stays of finished jobs: the same ids survive whether BullMQ's worker or ours ends them."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril import clock
from toril.engine.worker import Finish, TakenJob
from toril.worker import outcomes

POLICIES: list[Any] = [
    None,
    True,
    False,
    0,
    2,
    -1,
    {"count": 2},
    {"count": 0},
    {"age": 100},
    {"age": 100, "limit": 1},
    {"age": 100, "limit": 2},
    {"age": 100, "count": 2},
    {"age": 100, "count": 5, "limit": 1},
    {"age": 86400, "count": 1000},
]
OLD_SECONDS = (500, 400, 300, 30, 20, 10)
"""How long ago the jobs ended that are there already: none comes of the age that policies name while a test runs."""


async def prepare(peer: Peer, ours: EngineQueue, key: str) -> None:
    """Finished jobs of several ages, each with a log."""
    for age in OLD_SECONDS:
        job_id = f"old-{age}"
        await peer.queue.add("echo", {}, jobId=job_id)
        await peer.queue.job(job_id, "log", "row")
        ours.raw.lrem(ours.keys.wait, 0, job_id)
        ours.raw.zadd(key, {job_id: clock.now_ms() - age * 1000})


def survivors(ours: EngineQueue, key: str) -> tuple[set[str], set[str]]:
    """Ids in the set, and all keys that hold something of a job."""
    keys = {name.removeprefix(ours.keys.base) for name in ours.raw.keys(ours.keys.base + "*")}
    return set(ours.raw.zrange(key, 0, -1)), {name for name in keys if name.startswith(("old-", "new-"))}


@pytest.mark.requirement("Z-19", "Z-20")
@pytest.mark.wire(58, 59)
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_the_same_jobs_survive(peer: Peer, ours: EngineQueue, outcome: str, policy: Any) -> None:
    key = ours.keys.completed if outcome == "completed" else ours.keys.failed
    option = "removeOnComplete" if outcome == "completed" else "removeOnFail"
    options = {} if policy is None else {option: policy}
    name = "echo" if outcome == "completed" else "fail"

    await prepare(peer, ours, key)
    worker = await peer.worker()
    for number in range(2):
        await peer.queue.add(name, {"message": "x"}, jobId=f"new-{number}", **options)

    async def ended() -> bool:
        return ours.event_names().count(outcome) == 2

    await wait_until_async(ended, "their worker to end two jobs")
    await worker.close()
    theirs = survivors(ours, key)

    ours.raw.flushdb()
    await prepare(peer, ours, key)
    for number in range(2):
        await peer.queue.add(name, {"message": "x"}, jobId=f"new-{number}", **options)
        job = await ours.take_one()
        await ours.finish(_end(job, outcome))
    assert survivors(ours, key) == theirs


def _end(job: TakenJob, outcome: str) -> Finish:
    rules = outcomes.RuleBook().of(job)
    if outcome == "completed":
        return outcomes.completed(job, 1, rules)
    return outcomes.failed(job, ValueError("x"), rules, lambda: 0.0)
