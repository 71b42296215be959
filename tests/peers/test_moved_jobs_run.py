"""What one side promotes, retries or moves is run at once by a worker of the other side that waits for a wake-up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from toril import Queue
from toril.engine.worker import Finish

HOUR_MS = 3_600_000
Move = Callable[[Any], Awaitable[Any]]

OURS: dict[str, tuple[str, Move]] = {
    # what: (where the job is before, our call)
    "promote": ("delayed", lambda queue: queue.handle("job").promote()),
    "promote-all": ("delayed", lambda queue: queue.promote_all()),
    "change-delay": ("delayed", lambda queue: queue.handle("job").change_delay(0.05)),
    "retry": ("failed", lambda queue: queue.handle("job").retry()),
    "retry-completed": ("completed", lambda queue: queue.handle("job").retry("completed")),
    "retry-all": ("failed", lambda queue: queue.retry_all()),
}
THEIRS: dict[str, tuple[str, Move]] = {
    "promote": ("delayed", lambda peer: peer.queue.job("job", "promote")),
    "promote-all": ("delayed", lambda peer: peer.queue.call("promoteJobs")),
    "change-delay": ("delayed", lambda peer: peer.queue.job("job", "changeDelay", 50)),
    "retry": ("failed", lambda peer: peer.queue.job("job", "retry", "failed")),
    "retry-completed": ("completed", lambda peer: peer.queue.job("job", "retry", "completed")),
    "retry-all": ("failed", lambda peer: peer.queue.call("retryJobs")),
}


async def put(ours: EngineQueue, where: str) -> None:
    """One job, `job`, in that state, with a priority."""
    await ours.add("echo", jobId="job", priority=3, **({"delay": HOUR_MS} if where == "delayed" else {}))
    if where != "delayed":
        job = await ours.take_one()
        await ours.finish(Finish.completed(job, "1") if where == "completed" else Finish.failed(job, "no", '["t"]'))


@pytest.mark.wire(35, 36, 53, 54)
@pytest.mark.parametrize("name", OURS)
async def test_their_worker_runs_what_we_move(peer: Peer, ours: EngineQueue, name: str) -> None:
    where, move = OURS[name]
    await put(ours, where)
    worker = await peer.worker(drainDelay=60)
    async with Queue(ours.keys.queue, url=peer.url) as queue:
        await move(queue)
        await peer.until_state("job", "completed")
    assert [run["id"] for run in await worker.runs()] == ["job"]


@pytest.mark.wire(35, 36, 53, 54)
@pytest.mark.parametrize("name", THEIRS)
async def test_our_worker_runs_what_they_move(peer: Peer, ours: EngineQueue, name: str) -> None:
    where, move = THEIRS[name]
    await put(ours, where)
    ours.raw.delete(ours.keys.marker)
    waiting = asyncio.create_task(ours.blocking.wait_marker(ours.keys.marker, 30))
    await move(peer)
    score = await asyncio.wait_for(waiting, 40)
    assert score is not None
    while not (jobs := await ours.take()):
        # A delayed job: the token says when it is due.
        await ours.blocking.wait_marker(ours.keys.marker, 0.02)
    await ours.finish(Finish.completed(jobs[0], '"ours"'))
    await peer.until_state("job", "completed")
    assert (await peer.queue.job("job"))["returnvalue"] == "ours"
