"""Whose jobs are given back when a process of ours dies, and which of them are charged for it."""

from __future__ import annotations

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from toril.engine import identity
from toril.engine.identity import ProcessIdentity
from toril.engine.maintenance import recover_stalled
from toril.engine.worker import ActiveJobs, Finish
from toril.jobs.outcome import TakenJob

TOO_OFTEN = "job stalled more than allowable limit"
OURS = ProcessIdentity("pod-1", "uuid-1", "pod-uid/worker")
RESTARTED = ProcessIdentity("pod-1", "uuid-2", "pod-uid/worker")


async def start(queue: EngineQueue, who: ProcessIdentity) -> list[str]:
    return await identity.register(queue.connection, queue.keys, who, is_start=True)


async def take(queue: EngineQueue, who: ProcessIdentity, count: int = 1, **taker: int) -> list[TakenJob]:
    worker = queue.worker(who.name, **taker)
    return (await worker.take(count, f"{who.token_prefix}{queue.token()}")).jobs


async def check(queue: EngineQueue, *, max_stalled_count: int = 1) -> list[str]:
    """Make stalled checks until one gives jobs back."""

    async def once() -> list[str]:
        return await recover_stalled.run_once(
            queue.connection, queue.keys, max_stalled_count=max_stalled_count, interval_ms=20
        )

    return await wait_until_async(once, "a check that gives jobs back")


def charges(queue: EngineQueue, *job_ids: str) -> list[tuple[str | None, bool]]:
    """How often each has stalled, and whether it is a suspect."""
    found = [queue.hash(job_id) for job_id in job_ids]
    return [(fields.get("stc"), "torilSuspect" in fields) for fields in found]


async def test_a_process_takes_back_the_only_job_of_the_one_before_it_and_charges_it(queue: EngineQueue) -> None:
    await start(queue, OURS)
    await queue.add(jobId="a")
    await queue.add(jobId="behind")
    await take(queue, OURS)
    queue.raw.delete(queue.keys.marker)
    assert await start(queue, RESTARTED) == ["a"]
    assert queue.places() == {"wait": ["a", "behind"]}
    assert charges(queue, "a", "behind") == [("1", False), (None, False)]
    assert not queue.raw.exists(queue.keys.lock("a"))
    assert queue.raw.zscore(queue.keys.marker, "0") == 0
    assert [event["event"] for event in queue.events() if event.get("jobId") == "a"][-2:] == ["waiting", "stalled"]


async def test_of_several_jobs_none_is_charged_and_their_order_stays(queue: EngineQueue) -> None:
    await start(queue, OURS)
    for name in ("a", "b", "c"):
        await queue.add(jobId=name)
    await take(queue, OURS, 2)
    assert sorted(await start(queue, RESTARTED)) == ["a", "b"]
    assert queue.places() == {"wait": ["a", "b", "c"]}
    assert charges(queue, "a", "b", "c") == [(None, True), (None, True), (None, False)]


@pytest.mark.parametrize(
    "other",
    [
        ProcessIdentity("pod-1", "uuid-2", "another-uid/worker"),
        ProcessIdentity("pod-1", "uuid-2", "pod-uid/sidecar"),
        ProcessIdentity("pod-1", "uuid-2"),
        ProcessIdentity("pod-2", "uuid-2", "pod-uid/worker"),
        OURS,
    ],
    ids=["another-pod", "another-container", "not-known", "another-name", "the-same-process"],
)
async def test_nothing_is_taken_back_from_a_process_that_may_live(queue: EngineQueue, other: ProcessIdentity) -> None:
    await start(queue, OURS)
    await queue.add(jobId="a")
    await take(queue, OURS)
    assert await start(queue, other) == []
    assert queue.places() == {"active": ["a"]}
    assert charges(queue, "a") == [(None, False)]


async def test_nothing_is_taken_back_where_neither_is_known(queue: EngineQueue) -> None:
    await start(queue, ProcessIdentity("pod-1", "uuid-1"))
    await queue.add(jobId="a")
    await take(queue, ProcessIdentity("pod-1", "uuid-1"))
    assert await start(queue, ProcessIdentity("pod-1", "uuid-2")) == []
    assert queue.places() == {"active": ["a"]}


async def test_renewing_takes_nothing_back_and_keeps_the_beginning(queue: EngineQueue) -> None:
    await start(queue, OURS)
    await queue.add(jobId="a")
    await take(queue, OURS)
    since = queue.raw.hget(queue.keys.workers, "pod-1").split()[0]
    for who in (OURS, RESTARTED):
        assert await identity.register(queue.connection, queue.keys, who, is_start=False) == []
    await identity.register(queue.connection, queue.keys, OURS, is_start=False)
    assert queue.places() == {"active": ["a"]}
    await start(queue, OURS)
    assert int(queue.raw.hget(queue.keys.workers, "pod-1").split()[0]) >= int(since)
    assert 0 < queue.raw.pttl(queue.keys.workers) <= identity.LIFETIME_MS


async def test_a_job_whose_lock_has_run_out_is_taken_back_too(queue: EngineQueue) -> None:
    """A container that fails again and again is started later and later."""
    await start(queue, OURS)
    await queue.add(jobId="a")
    await queue.add(jobId="b")
    await take(queue, OURS, 2)
    queue.raw.delete(queue.keys.lock("a"))
    assert sorted(await start(queue, RESTARTED)) == ["a", "b"]
    assert charges(queue, "a", "b") == [(None, True), (None, True)]


async def test_jobs_of_other_workers_stay_where_they_are(queue: EngineQueue) -> None:
    await start(queue, OURS)
    for name in ("a", "b", "c"):
        await queue.add(jobId=name)
    await take(queue, OURS)
    await take(queue, ProcessIdentity("pod-2", "uuid-9"))
    await take(queue, ProcessIdentity("theirs", "x"))
    queue.raw.delete(queue.keys.lock("c"))
    assert await start(queue, RESTARTED) == ["a"]
    assert queue.places() == {"wait": ["a"], "active": ["b", "c"]}


async def test_jobs_of_a_paused_queue_wake_nobody(queue: EngineQueue) -> None:
    await start(queue, OURS)
    await queue.add(jobId="a")
    await take(queue, OURS)
    await queue.producer.pause()
    queue.raw.delete(queue.keys.marker)
    assert await start(queue, RESTARTED) == ["a"]
    assert not queue.raw.exists(queue.keys.marker)


async def test_a_job_that_ends_its_worker_too_often_fails(queue: EngineQueue) -> None:
    await queue.add(jobId="a")
    for number in range(3):
        await start(queue, ProcessIdentity("pod-1", f"uuid-{number}", "pod-uid/worker"))
        if number < 2:
            await take(queue, ProcessIdentity("pod-1", f"uuid-{number}"))
    assert queue.hash("a")["stc"] == "2"
    assert queue.hash("a")["defa"] == TOO_OFTEN


# ---- the stalled check


async def stall(queue: EngineQueue, worker: ActiveJobs, *names: str) -> None:
    """Let a worker take jobs and vanish: their locks run out."""
    for name in names:
        await queue.add(jobId=name)
    jobs = (await worker.take(len(names), queue.token())).jobs
    assert [job.id for job in jobs] == list(names)
    queue.raw.delete(*(queue.keys.lock(name) for name in names))


async def test_the_check_charges_the_only_job_of_a_worker_of_ours(queue: EngineQueue) -> None:
    await start(queue, OURS)
    await stall(queue, queue.worker("pod-1"), "a")
    assert await check(queue) == ["a"]
    assert charges(queue, "a") == [("1", False)]


async def test_the_check_suspects_several_jobs_of_a_worker_of_ours(queue: EngineQueue) -> None:
    await start(queue, OURS)
    await stall(queue, queue.worker("pod-1"), "a", "b")
    assert sorted(await check(queue, max_stalled_count=0)) == ["a", "b"]
    assert charges(queue, "a", "b") == [(None, True), (None, True)]
    assert "defa" not in queue.hash("a")


async def test_a_job_taken_just_before_its_worker_died_counts_beside_the_stalled_ones(queue: EngineQueue) -> None:
    await start(queue, OURS)
    await stall(queue, queue.worker("pod-1"), "a")
    await queue.add(jobId="late")
    await take(queue, OURS)
    assert await check(queue) == ["a"]
    assert charges(queue, "a") == [(None, True)]


async def test_jobs_of_a_process_that_came_after_it_do_not_count(queue: EngineQueue) -> None:
    await start(queue, ProcessIdentity("pod-1", "uuid-1"))
    await stall(queue, queue.worker("pod-1"), "a")
    await wait_until_async(lambda: a_later_millisecond(queue), "the clock to go on")
    await start(queue, ProcessIdentity("pod-1", "uuid-2"))
    await queue.add(jobId="b")
    await take(queue, ProcessIdentity("pod-1", "uuid-2"))
    assert await check(queue) == ["a"]
    assert charges(queue, "a") == [("1", False)]


async def a_later_millisecond(queue: EngineQueue) -> bool:
    return await queue.active.server_time_ms() > int(queue.hash("a")["processedOn"])


@pytest.mark.parametrize("name", ["theirs", ""], ids=["named", "nameless"])
async def test_the_check_charges_jobs_of_workers_that_are_not_ours_as_bullmq_does(
    queue: EngineQueue, name: str
) -> None:
    await start(queue, OURS)
    await stall(queue, queue.worker(name), "a", "b")
    assert sorted(await check(queue)) == ["a", "b"]
    assert charges(queue, "a", "b") == [("1", False), ("1", False)]


async def test_two_dead_workers_with_one_job_each_are_two_cases(queue: EngineQueue) -> None:
    await start(queue, OURS)
    await start(queue, ProcessIdentity("pod-2", "uuid-2"))
    await stall(queue, queue.worker("pod-1"), "a")
    await stall(queue, queue.worker("pod-2"), "b")
    assert sorted(await check(queue)) == ["a", "b"]
    assert charges(queue, "a", "b") == [("1", False), ("1", False)]


async def test_nonsense_in_what_is_registered_charges_as_bullmq_does(queue: EngineQueue) -> None:
    queue.raw.hset(queue.keys.workers, "pod-1", "nonsense")
    await stall(queue, queue.worker("pod-1"), "a", "b")
    assert sorted(await check(queue)) == ["a", "b"]
    assert charges(queue, "a", "b") == [("1", False), ("1", False)]


async def test_a_process_that_was_not_seen_for_long_is_forgotten(queue: EngineQueue) -> None:
    await start(queue, OURS)
    now_ms = await queue.active.server_time_ms()
    long_ago = now_ms - identity.LIFETIME_MS - 1
    queue.raw.hset(queue.keys.workers, "old", f"1 {long_ago} uuid-0 ")
    queue.raw.hset(queue.keys.workers, "nonsense", "nonsense")
    await start(queue, ProcessIdentity("pod-2", "uuid-2"))
    assert set(queue.raw.hkeys(queue.keys.workers)) == {"pod-1", "pod-2"}


# ---- how suspects are cleared


@pytest.mark.parametrize("kind", ["completed", "failed", "retry", "delay"])
async def test_a_suspect_that_its_worker_outlives_is_cleared(queue: EngineQueue, kind: str) -> None:
    await queue.add(jobId="a")
    queue.raw.hset(queue.keys.job("a"), "torilSuspect", "1")
    job = await queue.take_one()
    assert job.is_suspect
    ends = {
        "completed": Finish.completed(job, "1"), "failed": Finish.failed(job, "no", "[]"),
        "retry": Finish.retry(job, "no", "[]", 0), "delay": Finish.delay(job, 60_000),
    }  # fmt: skip
    await queue.finish(ends[kind])
    assert charges(queue, "a") == [(None, False)]


async def test_a_suspect_that_is_given_back_stays_one(queue: EngineQueue) -> None:
    await queue.add(jobId="a")
    queue.raw.hset(queue.keys.job("a"), "torilSuspect", "1")
    await queue.finish(Finish.requeue(await queue.take_one(), has_started=False))
    assert charges(queue, "a") == [(None, True)]
    await queue.finish(Finish.requeue(await queue.take_one()))
    assert charges(queue, "a") == [(None, True)]


async def test_a_check_of_a_healthy_queue_costs_the_same_with_workers_of_ours(queue: EngineQueue) -> None:
    for _ in range(10):
        await queue.add()
    await queue.take(10)

    async def commands() -> dict[str, int]:
        """What a check asks of Redis, by command."""

        async def was_made() -> bool:
            queue.raw.config_resetstat()
            await recover_stalled.run_once(queue.connection, queue.keys, interval_ms=1)
            return "cmdstat_smembers" in queue.raw.info("commandstats")

        await wait_until_async(was_made, "a check")
        stats = queue.raw.info("commandstats")
        return {name: numbers["calls"] for name, numbers in stats.items() if name != "cmdstat_eval"}

    await commands()
    without = await commands()
    await start(queue, OURS)
    assert await commands() == without
    assert without["cmdstat_exists"] == 10
