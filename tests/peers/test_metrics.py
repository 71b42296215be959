"""BullMQ's metrics: the same ends, the same minutes between them, the same numbers."""

from __future__ import annotations

from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril.engine.worker import Finish

POINTS = 4
GAPS_MINUTES = (0, 1, 0, 3, 2, 9)
"""Minutes that pass before each end."""


def numbers(ours: EngineQueue, kind: str) -> dict[str, Any]:
    key = f"{ours.keys.base}metrics:{kind}"
    found = ours.raw.hgetall(key)
    found.pop("prevTS", None)
    return {**found, "data": ours.raw.lrange(key + ":data", 0, -1)}


async def minutes_pass(ours: EngineQueue, count: int) -> None:
    """As if the last number had been written so many minutes ago; not just before a minute ends."""

    async def is_early() -> bool:
        return int(ours.raw.time()[0]) % 60 < 45

    await wait_until_async(is_early, "a new minute")
    for kind in ("completed", "failed"):
        key = f"{ours.keys.base}metrics:{kind}"
        if count and ours.raw.exists(key):
            ours.raw.hincrby(key, "prevTS", -60_000 * count)


@pytest.mark.wire(98)
@pytest.mark.parametrize("kind", ["completed", "failed"])
async def test_the_same_ends_leave_the_same_numbers(peer: Peer, ours: EngineQueue, kind: str) -> None:
    worker = await peer.worker(metrics={"maxDataPoints": POINTS})
    for gap in GAPS_MINUTES:
        await minutes_pass(ours, gap)
        job_id = await peer.queue.add("echo" if kind == "completed" else "fail", {"message": "no"})
        await peer.until_state(job_id, kind)
    await worker.close()
    theirs = numbers(ours, kind)
    assert len(theirs["data"]) == POINTS
    ours.raw.flushdb()
    active = ours.worker("worker-1", metrics_minutes=POINTS)
    for gap in GAPS_MINUTES:
        await minutes_pass(ours, gap)
        await ours.add()
        (job,) = (await active.take(1, ours.token())).jobs
        finish = Finish.completed(job, "1") if kind == "completed" else Finish.failed(job, "no", "[]")
        await active.finish_and_take([finish], 0, ours.token())
    assert numbers(ours, kind) == theirs


@pytest.mark.wire(98)
async def test_they_read_what_we_count_and_go_on_from_there(peer: Peer, ours: EngineQueue) -> None:
    active = ours.worker("worker-1", metrics_minutes=POINTS)
    for _ in range(3):
        await ours.add()
    jobs = (await active.take(3, ours.token())).jobs
    await active.finish_and_take([Finish.completed(job, "1") for job in jobs], 0, ours.token())
    await minutes_pass(ours, 2)
    await peer.queue.add("echo", {})
    worker = await peer.worker(metrics={"maxDataPoints": POINTS})
    await peer.until_state("4", "completed")
    await worker.close()
    found = await peer.queue.call("getMetrics", "completed")
    assert (found["meta"]["count"], [int(number) for number in found["data"]]) == (4, [0, 3])
