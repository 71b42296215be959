"""Jobs with keys that our engine does not serve yet: it works them off and harms nothing that belongs to them."""

from __future__ import annotations

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from toril.engine.worker import Finish
from toril.jobs.retention import KEEP_NONE, KeepPolicy

ONCE = {"deduplication": {"id": "d"}}


@pytest.mark.parametrize("outcome", ["completed", "failed"])
@pytest.mark.parametrize("keep", [KeepPolicy(), KEEP_NONE], ids=["kept", "not-kept"])
async def test_a_deduplication_id_is_free_after_our_end(
    peer: Peer, ours: EngineQueue, outcome: str, keep: KeepPolicy
) -> None:
    first = await peer.queue.add("echo", {}, **ONCE)
    assert await peer.queue.add("echo", {}, **ONCE) == first
    job = await ours.take_one()
    await ours.finish(Finish.retry(job, "x", "[]", 0))
    # Not free between attempts.
    assert await peer.queue.add("echo", {}, **ONCE) == first
    job = await ours.take_one()
    await ours.finish(
        Finish.completed(job, "1", keep) if outcome == "completed" else Finish.failed(job, "x", "[]", keep)
    )
    assert not ours.raw.exists(ours.keys.base + "de:d")
    assert await peer.queue.add("echo", {}, **ONCE) != first


async def test_a_throttle_outlives_our_end(peer: Peer, ours: EngineQueue) -> None:
    first = await peer.queue.add("echo", {}, deduplication={"id": "d", "ttl": 60_000})
    await ours.finish(Finish.completed(await ours.take_one(), "1", KEEP_NONE))
    assert ours.raw.get(ours.keys.base + "de:d") == first
    assert ours.raw.pttl(ours.keys.base + "de:d") > 0


async def test_another_jobs_deduplication_is_left_alone(peer: Peer, ours: EngineQueue) -> None:
    await peer.queue.add("echo", {}, **ONCE)
    job = await ours.take_one()
    await peer.queue.call("removeDeduplicationKey", "d")
    second = await peer.queue.add("echo", {}, **ONCE)
    await ours.finish(Finish.completed(job, "1"))
    assert ours.raw.get(ours.keys.base + "de:d") == second


async def test_a_child_that_we_end_leaves_its_parent_whole(peer: Peer, ours: EngineQueue) -> None:
    parent = await peer.queue.add("echo", {"is": "parent"})
    await ours.take_one()
    link = {"id": parent, "queue": ours.keys.base.removesuffix(":")}
    for job_id in ("kept", "not-kept"):
        await peer.queue.add("echo", {}, jobId=job_id, parent=link)
    before = ours.hash(parent)
    kept, not_kept = await ours.take(2)
    await ours.finish(Finish.completed(kept, '"a"', KeepPolicy(count=1)), Finish.completed(not_kept, '"b"', KEEP_NONE))
    assert ours.hash(parent) == before
    assert (await peer.queue.job("kept"))["returnvalue"] == "a"
    assert await peer.queue.job("kept", "getState") == "completed"
