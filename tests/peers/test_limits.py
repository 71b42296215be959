"""One limit over both fleets: jobs at a time, jobs in a time, and a queue that is held back by hand."""

from __future__ import annotations

from typing import Any

import pytest

from support import worker_inside
from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril import Job, Queue, RateLimit
from toril.engine.limits import HELD_BACK
from toril.engine.worker import Finish, Limiter

WINDOW_MS = 250
MOST = 3


def queue_of(redis_url: str, queue_name: str) -> Queue:
    """Ours, for a worker that returns what a job holds."""
    queue = Queue(queue_name, url=redis_url)

    @queue.default
    async def echo(job: Job) -> Any:
        return job.data

    return queue


async def until_completed(ours: EngineQueue, count: int) -> None:
    async def is_done() -> bool:
        return bool(ours.raw.zcard(ours.keys.completed) == count)

    await wait_until_async(is_done, f"{count} completed jobs")


def too_early(ours: EngineQueue) -> list[str]:
    """Jobs that were started before as many windows were over as it takes for those before them.

    The first window begins when the first job was taken, and each other no sooner than the one before has ended. A
    job's event may come later than its start was counted, and not earlier.
    """
    started = [(entry_id, fields["jobId"]) for entry_id, fields in ours.raw.xrange(ours.keys.events)
               if fields["event"] == "active"]  # fmt: skip
    begin_ms = int(ours.hash(started[0][1])["processedOn"])
    # Redis may end a window at the millisecond's beginning.
    return [
        job_id for number, (entry_id, job_id) in enumerate(started)
        if int(entry_id.split("-")[0]) < begin_ms + number // MOST * (WINDOW_MS - 1)
    ]  # fmt: skip


@pytest.mark.wire(49)
@pytest.mark.requirement("Z-07", "Z-08", "X-19")
async def test_never_more_at_a_time_than_the_queue_allows(
    peer: Peer, ours: EngineQueue, redis_url: str, queue_name: str
) -> None:
    async with queue_of(redis_url, queue_name) as queue:
        await queue.set_global_concurrency(2)
        assert await peer.queue.call("getGlobalConcurrency") == await queue.get_global_concurrency() == 2
        await peer.node.request("addMany", handle=peer.queue.number, name="sleep", count=60, data={"ms": 5}, options={})
        await peer.worker(name="theirs", concurrency=5)
        async with worker_inside.running(queue, name="ours", concurrency=5):
            await until_completed(ours, 60)
        active, most = 0, 0
        for name in ours.event_names():
            active += {"active": 1, "completed": -1}.get(name, 0)
            most = max(most, active)
        assert most == 2
        await peer.queue.call("removeGlobalConcurrency")
        assert await queue.get_global_concurrency() is None


@pytest.mark.wire(50, 51)
@pytest.mark.requirement("M-17", "Z-44")
@pytest.mark.parametrize("whose", ["queue", "workers"])
async def test_never_more_in_a_time_than_the_limit_allows(
    peer: Peer, ours: EngineQueue, redis_url: str, queue_name: str, whose: str
) -> None:
    """Both fleets count in the same key; whoever is limited sleeps, and goes on when the time is over."""
    async with queue_of(redis_url, queue_name) as queue:
        theirs: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        if whose == "queue":
            await queue.set_global_rate_limit(MOST, WINDOW_MS / 1000)
            assert await peer.queue.call("getGlobalRateLimit") == {"max": MOST, "duration": WINDOW_MS}
            assert await queue.get_global_rate_limit() == RateLimit(MOST, WINDOW_MS / 1000)
        else:
            theirs["limiter"] = {"max": MOST, "duration": WINDOW_MS}
            settings["limiter"] = Limiter(MOST, WINDOW_MS)
        count = 4 * MOST
        await peer.node.request("addMany", handle=peer.queue.number, name="echo", count=count, data={}, options={})
        await peer.worker(name="theirs", concurrency=2, **theirs)
        async with worker_inside.running(queue, name="ours", concurrency=2, **settings):
            await until_completed(ours, count)
        assert too_early(ours) == []
        await peer.queue.call("removeGlobalRateLimit")
        assert await queue.get_global_rate_limit() is None


@pytest.mark.wire(50)
async def test_how_long_the_limit_holds_is_told_alike(peer: Peer, ours: EngineQueue, redis_url: str) -> None:
    async with Queue(ours.keys.queue, url=redis_url) as queue:
        await peer.queue.call("setGlobalRateLimit", 2, 60_000)
        for _ in range(3):
            await ours.add()
        assert len(await ours.take(1)) == 1
        assert (await queue.get_rate_limit_ttl(), await peer.queue.call("getRateLimitTtl", 2)) == (0, 0)
        assert len(await ours.take(1)) == 1
        taken = await ours.active.take(1, ours.token())
        assert taken.jobs == []
        found = [taken.rate_limit_ms, await queue.get_rate_limit_ttl() * 1000, await peer.queue.call("getRateLimitTtl")]
        assert all(50_000 < ttl_ms <= 60_000 for ttl_ms in found)


@pytest.mark.wire(52)
async def test_they_hold_the_queue_back_and_our_worker_waits(
    peer: Peer, ours: EngineQueue, redis_url: str, queue_name: str
) -> None:
    await peer.queue.call("rateLimit", 300)
    seconds, microseconds = ours.raw.time()
    held_until_ms = seconds * 1000 + microseconds // 1000 + ours.raw.pttl(ours.keys.limiter)
    job_id = await peer.queue.add("echo", {"n": 1})
    async with (
        queue_of(redis_url, queue_name) as queue,
        worker_inside.running(queue, limiter=Limiter(10, 60_000), max_rate_limit_wait_ms=50),
    ):
        job = await peer.until_state(job_id, "completed")
    assert job["processedOn"] >= held_until_ms - 2
    assert job["attemptsMade"] == 1


@pytest.mark.wire(52)
async def test_we_hold_the_queue_back_and_their_worker_waits(peer: Peer, ours: EngineQueue, redis_url: str) -> None:
    async with Queue(ours.keys.queue, url=redis_url) as queue:
        await queue.rate_limit(60)
        assert (ours.raw.get(ours.keys.limiter), queue.name) == (str(HELD_BACK), ours.keys.queue)
        job_id = await peer.queue.add("echo", {})
        await peer.worker(limiter={"max": 10, "duration": 1000}, maximumRateLimitDelay=20)
        assert await peer.queue.call("getRateLimitTtl", 10) > 50_000
        assert await peer.queue.job(job_id, "getState") == "waiting"
        assert await queue.remove_rate_limit_key()
        await peer.until_state(job_id, "completed")


@pytest.mark.wire(49)
async def test_a_finish_of_theirs_or_ours_lets_the_next_one_in(
    peer: Peer, ours: EngineQueue, redis_url: str, queue_name: str
) -> None:
    """Our worker waits without a poll in sight: the end of the job that fills the queue wakes it."""
    async with queue_of(redis_url, queue_name) as queue:
        await queue.set_global_concurrency(1)
        await ours.add("echo", jobId="filling")
        filling = await ours.take_one()
        await peer.queue.add("echo", {}, jobId="next")
        async with worker_inside.running(queue, idle_poll_seconds=60):

            async def is_blocked() -> bool:
                here = [client["cmd"] for client in ours.raw.client_list() if client["db"] == str(ours.settings.db)]
                return "bzpopmin" in here

            await wait_until_async(is_blocked, "a blocked worker")
            await ours.active.finish_and_take([Finish.completed(filling, "1")], 0, ours.token())
            await peer.until_state("next", "completed")
