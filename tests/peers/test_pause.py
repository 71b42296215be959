"""Either side pauses and resumes the queue, the other obeys, and no job is lost between the two layouts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.engine import EngineQueue, open_queue
from support.node_peer import NodePeer, Peer
from support.waiting import wait_until_async
from toril import Queue, errors
from toril.engine.maintenance import recover_stalled
from toril.engine.worker import Finish

NO_POLL = {"drainDelay": 60, "stalledInterval": 60_000}
"""Such a worker looks again only when something wakes it."""


def _blocked_workers(ours: EngineQueue, count: int) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        here = [client["cmd"] for client in ours.raw.client_list() if client["db"] == str(ours.settings.db)]
        return here.count("bzpopmin") == count

    return probe


def server_now_ms(ours: EngineQueue) -> int:
    seconds, microseconds = ours.raw.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


@pytest.mark.wire(44, 47)
async def test_they_pause_and_we_stop(peer: Peer, ours: EngineQueue) -> None:
    await ours.add(jobId="before")
    await peer.queue.call("pause")
    assert await ours.inspector.is_paused()
    assert await ours.take(5) == []
    await ours.add(jobId="ours")
    await peer.queue.add("n", {}, jobId="theirs")
    await ours.add(jobId="important", priority=1)
    assert await ours.take(5) == []
    assert not ours.raw.exists(ours.keys.marker)
    counts = await peer.queue.call("getJobCounts")
    assert (counts.get("paused", 0), counts["waiting"]) == ((3, 0) if peer.version == "5" else (0, 3))
    assert (await ours.inspector.counts())["waiting"] == 3
    for job_id in ("before", "ours", "theirs"):
        assert await peer.queue.job(job_id, "getState") == await ours.inspector.state(job_id) == "waiting"
    await peer.queue.call("resume")
    assert not await ours.inspector.is_paused()
    assert ours.raw.zscore(ours.keys.marker, "0") == 0
    assert [job.id for job in await ours.take(5)] == ["before", "ours", "theirs", "important"]


@pytest.mark.wire(45, 47)
async def test_we_pause_and_they_stop(peer: Peer, ours: EngineQueue) -> None:
    listener = await peer.listener()
    early = await peer.worker(**NO_POLL)
    await ours.add("echo", jobId="before")
    await early.runs_until(1)
    assert await ours.producer.pause()
    assert await peer.queue.call("isPaused")
    await peer.queue.add("echo", {}, jobId="theirs")
    await ours.add("echo", jobId="ours")
    counts = await peer.queue.call("getJobCounts")
    assert (counts.get("paused", 0), counts["waiting"]) == ((2, 0) if peer.version == "5" else (0, 2))
    # A new worker begins with a look of its own; then both wait, until they are woken.
    late = await peer.worker(**NO_POLL)
    await wait_until_async(_blocked_workers(ours, 2), "two blocked workers")
    resumed_ms = server_now_ms(ours)
    assert await ours.producer.resume()

    async def runs() -> list[dict[str, Any]]:
        found = [run for run in [*await early.runs(), *await late.runs()] if run["id"] != "before"]
        return found if len(found) >= 2 else []

    after = await wait_until_async(runs, "both jobs to run")
    assert {run["id"] for run in after} == {"theirs", "ours"}
    assert all(run["atMs"] >= resumed_ms for run in after)

    async def told() -> bool:
        names = [event["event"] for event in await listener.events()]
        return [name for name in names if name in ("paused", "resumed")] == ["paused", "resumed"]

    await wait_until_async(told, "QueueEvents to tell paused and resumed")


@pytest.mark.wire(48)
async def test_what_falls_due_while_paused_waits(peer: Peer, ours: EngineQueue) -> None:
    await peer.queue.call("pause")
    await peer.queue.add("echo", {}, jobId="due", delay=1, timestamp=1000)
    await peer.queue.add("echo", {}, jobId="due-important", delay=1, timestamp=1000, priority=3)
    assert await ours.take(5) == []
    assert await peer.queue.job("due", "getState") == await ours.inspector.state("due") == "waiting"
    assert await peer.queue.job("due-important", "getState") == "prioritized"
    assert (await peer.queue.job("due"))["delay"] == 0
    await ours.producer.resume()
    runs = await (await peer.worker()).runs_until(2)
    assert [run["id"] for run in runs] == ["due", "due-important"]


@pytest.mark.wire(46)
@pytest.mark.parametrize("layout", ["5", "6"])
async def test_a_resume_of_ours_loses_nothing_whoever_added_where(
    peer: Peer, redis_url: str, queue_name: str, layout: Any
) -> None:
    """Jobs in `wait` and in `paused` at once, as when versions are mixed."""
    async with open_queue(redis_url, queue_name, layout) as ours:
        await peer.queue.add("echo", {}, jobId="first")
        await ours.producer.pause()
        await peer.queue.add("echo", {}, jobId="second")
        async with open_queue(redis_url, queue_name, "6") as other:
            await other.add("echo", jobId="third")
        await peer.queue.add("echo", {}, jobId="fourth")
        assert (await ours.inspector.counts())["waiting"] == 4
        await ours.producer.resume()
        assert "paused" not in ours.places()
        runs = await (await peer.worker()).runs_until(4)
        assert {run["id"] for run in runs} == {"first", "second", "third", "fourth"}


@pytest.mark.wire(46)
@pytest.mark.parametrize("layout", ["5", "6"])
async def test_a_second_pause_of_ours_loses_nothing(peer: Peer, redis_url: str, queue_name: str, layout: Any) -> None:
    async with open_queue(redis_url, queue_name, layout) as ours:
        await peer.queue.call("pause")
        await peer.queue.add("echo", {}, jobId="theirs")
        ours.raw.lpush(ours.keys.wait, *(await _stored(ours, "left-in-wait")))
        await ours.producer.pause()
        await ours.producer.pause()
        assert sorted(job_id for ids in ours.places().values() for job_id in ids) == ["left-in-wait", "theirs"]
        await ours.producer.resume()
        assert {job.id for job in await ours.take(5)} == {"left-in-wait", "theirs"}


async def _stored(ours: EngineQueue, job_id: str) -> list[str]:
    """A job's hash alone; the caller puts the id where a peer of the other version would have."""
    ours.raw.hset(ours.keys.job(job_id), mapping={"name": "echo", "data": "{}", "opts": "{}", "timestamp": "1"})
    return [job_id]


async def test_a_pause_lets_running_jobs_finish(peer: Peer, ours: EngineQueue) -> None:
    listener = await peer.listener()
    job_id = await ours.add("gate", {"gate": "pause"})
    worker = await peer.worker()
    await worker.runs_until(1)
    await ours.producer.pause()
    await peer.release("pause")
    assert await peer.finished(listener, job_id) == "passed"
    assert (await ours.inspector.signals()).work == 0


async def test_their_resume_loses_nothing_that_our_defaults_put_back(
    peer: Peer, redis_url: str, queue_name: str
) -> None:
    """A worker of ours is told of no layout: BullMQ 5 renames `paused` over `wait`, and whatever we left there."""
    async with open_queue(redis_url, queue_name) as ours:
        for job_id in ("retried", "given-back", "orphaned"):
            await ours.add(jobId=job_id, attempts=2)
        retried, given_back = await ours.take(2)
        await ours.worker("gone", lock_ms=1).take(1, "gone:1")
        await peer.queue.call("pause")
        await ours.add(jobId="due", delay=1, timestamp=1000)
        assert await ours.take() == []
        await ours.finish(Finish.retry(retried, "x", "[]", 0), Finish.requeue(given_back))

        async def recover() -> list[str]:
            return await recover_stalled.run_once(ours.connection, ours.keys, interval_ms=1)

        await wait_until_async(recover, "the orphaned job to be found")
        await ours.add(jobId="ours")
        await peer.queue.add("echo", {}, jobId="theirs")
        await peer.queue.call("resume")
        assert {job.id for job in await ours.take(10)} == {"retried", "given-back", "orphaned", "due", "ours", "theirs"}


async def test_their_resume_loses_nothing_that_our_pause_left(peer: Peer, redis_url: str, queue_name: str) -> None:
    async with open_queue(redis_url, queue_name) as ours:
        await ours.add(jobId="before")
        await ours.producer.pause()
        await peer.queue.add("echo", {}, jobId="theirs")
        await peer.queue.call("resume")
        assert [job.id for job in await ours.take(10)] == ["before", "theirs"]


@pytest.mark.wire(46)
async def test_three_kinds_of_clients_and_a_resume_of_ours(
    nodes: Callable[[str], NodePeer], redis_url: str, queue_name: str
) -> None:
    """BullMQ 6 pauses and leaves jobs in `wait`, 5 adds to `paused`; their own resume would lose some."""
    five, six = (Peer(nodes(version), redis_url, queue_name) for version in ("5", "6"))
    async with open_queue(redis_url, queue_name) as ours:
        await five.start()
        await six.start()
        await six.queue.add("echo", {}, jobId="six")
        await six.queue.call("pause")
        await five.queue.add("echo", {}, jobId="five")
        await ours.add("echo", jobId="ours")
        assert ours.places() == {"wait": ["six"], "paused": ["five", "ours"]}
        assert (await ours.inspector.counts())["waiting"] == 3
        await ours.producer.resume()
        assert ours.raw.zscore(ours.keys.marker, "0") == 0
        runs = await (await five.worker()).runs_until(3)
        assert {run["id"] for run in runs} == {"five", "six", "ours"}
    await five.close()
    await six.close()


@pytest.mark.wire(44, 45, 46, 47)
@pytest.mark.parametrize("resumer", ["5", "6"])
@pytest.mark.parametrize("pauser", ["5", "6"])
async def test_with_layout_5_nothing_is_lost_though_both_pause_and_either_resumes(
    nodes: Callable[[str], NodePeer], redis_url: str, queue_name: str, pauser: str, resumer: str
) -> None:
    """BullMQ 6 leaves jobs in `wait`, and 5 renames one list over the other; our workers gather them when they look."""
    peers = {version: Peer(nodes(version), redis_url, queue_name) for version in ("5", "6")}
    async with open_queue(redis_url, queue_name, "5") as ours:
        # The latest in `meta.version` is 6: nothing but the setting tells that there is a 5.
        for peer in peers.values():
            await peer.start()
        for job_id in ("running", "first", "second"):
            await ours.add(jobId=job_id)
        running = await ours.take_one()
        await peers[pauser].queue.call("pause")
        await peers["6"].queue.add("echo", {}, jobId="six")
        assert await ours.take(5) == []
        await peers["5"].queue.add("echo", {}, jobId="five")
        await peers["6"].queue.add("echo", {}, jobId="six-again")
        await ours.add(jobId="due", delay=1, timestamp=1000)
        await ours.finish(Finish.requeue(running))
        assert await ours.take(5) == []
        await peers["5" if pauser == "6" else "6"].queue.call("pause")
        assert (await ours.inspector.counts())["waiting"] == 7
        await peers[resumer].queue.call("resume")
        expected = {"running", "first", "second", "six", "five", "six-again", "due"}
        assert {job.id for job in await ours.take(10)} == expected
    for peer in peers.values():
        await peer.close()


async def test_the_layout_is_set_for_a_queue_or_by_the_environment(
    redis_url: str, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_queue(redis_url, queue_name) as ours:
        for name, value in (("TORIL_PAUSED_LAYOUT", "6"), ("TORIL_PAUSED_LAYOUT", "5")):
            monkeypatch.setenv(name, value)
            async with Queue(queue_name, url=redis_url) as queue:
                await queue.pause()
                await queue.add("n", {}, {"jobId": f"async-{value}"})
                queue.sync.add("n", {}, {"jobId": f"sync-{value}"})
                await queue.resume()
                await queue.pause()
        assert ours.places() == {"paused": ["async-6", "sync-6", "async-5", "sync-5"]}
        async with Queue(queue_name, url=redis_url, paused_layout="6") as queue:
            assert queue.paused_layout == "6"
    with pytest.raises(errors.InvalidOptionError, match="paused_layout: must be 5 or 6"):
        Queue(queue_name, paused_layout="7")  # type: ignore[arg-type]
    monkeypatch.setenv("TORIL_PAUSED_LAYOUT", "7")
    with pytest.raises(errors.SettingsError, match="TORIL_PAUSED_LAYOUT"):
        _ = Queue(queue_name).paused_layout
