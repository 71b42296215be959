"""Ending jobs: completed, failed, retried, given back; refusals; retention; taking more in the same call."""

from __future__ import annotations

import pytest

from support.engine import EngineQueue
from toril import clock
from toril.engine.worker import Finish, TakenJob
from toril.jobs.retention import KEEP_NONE, KeepPolicy


async def finish(queue: EngineQueue, *finishes: Finish) -> list[int]:
    return (await queue.active.finish_and_take(finishes, 0, "none")).codes


def failed(job: TakenJob, keep: KeepPolicy | None = None, attempts: int = 0) -> Finish:
    return Finish.failed(job, "boom", '["trace"]', keep or KeepPolicy(), attempts=attempts)


async def test_completed(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    assert await finish(queue, Finish.completed(job, '{"ok":true}')) == [0]
    stored = queue.hash("1")
    assert (stored["returnvalue"], stored["atm"]) == ('{"ok":true}', "1")
    assert queue.raw.zscore(queue.keys.completed, "1") == int(stored["finishedOn"])
    assert queue.places() == {"completed": ["1"]}
    assert queue.raw.exists(queue.keys.lock("1")) == 0
    assert queue.events()[-2:] == [
        {"event": "completed", "jobId": "1", "returnvalue": '{"ok":true}', "prev": "active"},
        {"event": "drained"},
    ]


@pytest.mark.requirement("Z-24")
async def test_failed_for_good(queue: EngineQueue) -> None:
    await queue.add(attempts=1)
    job = await queue.take_one()
    assert await finish(queue, failed(job, attempts=1)) == [0]
    stored = queue.hash("1")
    assert (stored["failedReason"], stored["stacktrace"], stored["atm"]) == ("boom", '["trace"]', "1")
    assert queue.places() == {"failed": ["1"]}
    assert queue.events()[-3:-1] == [
        {"event": "failed", "jobId": "1", "failedReason": "boom", "prev": "active"},
        {"event": "retries-exhausted", "jobId": "1", "attemptsMade": "1"},
    ]


async def test_failed_with_attempts_left_exhausts_nothing(queue: EngineQueue) -> None:
    await queue.add(attempts=3)
    assert await finish(queue, failed(await queue.take_one(), attempts=3)) == [0]
    assert "retries-exhausted" not in queue.event_names()


async def test_a_deferred_failure_is_forgotten_when_stored(queue: EngineQueue) -> None:
    await queue.add()
    queue.raw.hset(queue.keys.job("1"), "defa", "stalled")
    job = await queue.take_one()
    assert job.deferred_failure == "stalled"
    await finish(queue, failed(job))
    assert "defa" not in queue.hash("1")


async def test_retry_later(queue: EngineQueue) -> None:
    await queue.add(attempts=3)
    job = await queue.take_one()
    before = clock.now_ms()
    assert await finish(queue, Finish.retry(job, "boom", '["t"]', 5000)) == [0]
    due = queue.raw.zscore(queue.keys.delayed, "1") / 4096
    assert before + 4900 < due < clock.now_ms() + 5100
    stored = queue.hash("1")
    assert (stored["atm"], stored["delay"], stored["failedReason"]) == ("1", "5000", "boom")
    assert queue.raw.zscore(queue.keys.marker, "1") == due
    assert queue.events()[-1]["event"] == "delayed"
    assert "failed" not in queue.event_names()


async def test_retry_at_once_goes_behind_the_others(queue: EngineQueue) -> None:
    await queue.add(jobId="again", attempts=2)
    await queue.add(jobId="other")
    job = await queue.take_one()
    await finish(queue, Finish.retry(job, "boom", "[]", 0))
    assert queue.places() == {"wait": ["other", "again"]}
    assert queue.events()[-1] == {"event": "waiting", "jobId": "again", "prev": "active"}


async def test_retry_at_once_of_a_lifo_job_goes_in_front(queue: EngineQueue) -> None:
    await queue.add(jobId="again", attempts=2, lifo=True)
    await queue.add(jobId="other")
    job = await queue.take_one()
    await finish(queue, Finish.retry(job, "boom", "[]", 0))
    assert queue.places() == {"wait": ["again", "other"]}


async def test_a_prioritized_job_keeps_its_class_when_retried(queue: EngineQueue) -> None:
    await queue.add(jobId="a", priority=4)
    await queue.add(jobId="b", priority=4)
    job = await queue.take_one()
    await finish(queue, Finish.retry(job, "boom", "[]", 0))
    assert queue.places() == {"prioritized": ["b", "a"]}


@pytest.mark.requirement("T03", "T12")
async def test_given_back_is_next_and_not_charged(queue: EngineQueue) -> None:
    for job_id in ("a", "b"):
        await queue.add(jobId=job_id)
    job = await queue.take_one()
    assert await finish(queue, Finish.requeue(job)) == [0]
    assert queue.places() == {"wait": ["a", "b"]}
    assert "atm" not in queue.hash("a")
    assert queue.raw.exists(queue.keys.lock("a")) == 0


async def test_given_back_unstarted_has_not_been_started(queue: EngineQueue) -> None:
    await queue.add(attempts=3)
    for started in (1, 2):
        job = await queue.take_one()
        assert job.attempts_started == started
        await finish(queue, Finish.requeue(job, has_started=False))
        assert queue.hash(job.id)["ats"] == str(started - 1)
        await finish(queue, Finish.retry(await queue.take_one(), "boom", "[]", 0))
    job = await queue.take_one()
    assert (job.attempts_started, job.attempts_made) == (3, 2)


async def test_given_back_prioritized_is_first_of_its_class(queue: EngineQueue) -> None:
    for job_id in ("a", "b"):
        await queue.add(jobId=job_id, priority=2)
    await finish(queue, Finish.requeue(await queue.take_one()))
    assert queue.raw.zscore(queue.keys.prioritized, "a") == 2 * 2**32
    assert (await queue.take_one()).id == "a"


@pytest.mark.requirement("T05")
async def test_a_stolen_or_missing_lock_is_refused_and_nothing_written(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    queue.raw.set(queue.keys.lock("1"), "somebody-else")
    before = (queue.hash("1"), queue.places(), queue.events())
    for end in (Finish.completed(job, "1"), failed(job), Finish.retry(job, "b", "[]", 5), Finish.requeue(job)):
        assert await finish(queue, end) == [-6]
    queue.raw.delete(queue.keys.lock("1"))
    for end in (Finish.completed(job, "1"), failed(job), Finish.retry(job, "b", "[]", 5), Finish.requeue(job)):
        assert await finish(queue, end) == [-2]
    assert (queue.hash("1"), queue.places(), queue.events()) == before
    queue.raw.delete(queue.keys.job("1"))
    assert await finish(queue, Finish.completed(job, "1")) == [-1]


async def test_a_job_that_is_not_active_is_refused(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    queue.raw.lrem(queue.keys.active, 0, "1")
    assert await finish(queue, Finish.completed(job, "1")) == [-3]
    assert queue.raw.exists(queue.keys.completed) == 0


async def test_pending_and_failed_children_refuse_completion(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    queue.raw.sadd(queue.keys.job("1") + ":dependencies", "bull:other:5")
    assert await finish(queue, Finish.completed(job, "1")) == [-4]
    queue.raw.delete(queue.keys.job("1") + ":dependencies")
    queue.raw.zadd(queue.keys.job("1") + ":unsuccessful", {"bull:other:5": 1})
    assert await finish(queue, Finish.completed(job, "1")) == [-9]
    assert queue.places() == {"active": ["1"]}


@pytest.mark.requirement("T09")
async def test_a_repeated_finish_is_told_as_done_and_changes_nothing(queue: EngineQueue) -> None:
    for _ in range(3):
        await queue.add(attempts=2)
    done, bad, again = await queue.take(3)
    ends = [Finish.completed(done, "1"), failed(bad, attempts=2), Finish.retry(again, "boom", "[]", 60_000)]
    assert await finish(queue, *ends) == [0, 0, 0]
    before = (queue.places(), queue.events(), [queue.hash(job.id) for job in (done, bad, again)])
    assert await finish(queue, *ends) == [1, 1, 1]
    assert (queue.places(), queue.events(), [queue.hash(job.id) for job in (done, bad, again)]) == before


async def test_a_repeated_finish_does_not_touch_the_next_attempt(queue: EngineQueue) -> None:
    await queue.add(attempts=2)
    first = await queue.take_one()
    end = Finish.retry(first, "boom", "[]", 0)
    await finish(queue, end)
    second = await queue.take_one()
    assert await finish(queue, end) == [-6]
    assert await finish(queue, Finish.completed(second, "2")) == [0]
    assert await finish(queue, end) == [-2]
    assert queue.places() == {"completed": ["1"]}


async def test_each_of_many_gets_its_own_code(queue: EngineQueue) -> None:
    for _ in range(3):
        await queue.add()
    jobs = await queue.take(3)
    queue.raw.set(queue.keys.lock(jobs[1].id), "other")
    assert await finish(queue, *(Finish.completed(job, "1") for job in jobs)) == [0, -6, 0]
    assert queue.places() == {"completed": ["1", "3"], "active": ["2"]}


async def test_finishing_takes_the_next_in_the_same_call(queue: EngineQueue) -> None:
    for _ in range(4):
        await queue.add()
    first, second = await queue.take(2)
    reply = await queue.active.finish_and_take([Finish.completed(first, "1"), Finish.completed(second, "1")], 5, "t:9")
    assert reply.codes == [0, 0]
    assert [(job.id, job.token) for job in reply.taken.jobs] == [("3", "t:9"), ("4", "t:9")]
    assert "drained" not in queue.event_names()


@pytest.mark.parametrize(
    ("count", "delayed", "is_told"), [(0, False, True), (1, False, True), (0, True, True), (1, True, False)]
)
async def test_drained_is_told_as_bullmq_does(queue: EngineQueue, count: int, delayed: bool, is_told: bool) -> None:
    await queue.add()
    if delayed:
        await queue.add(delay=60_000)
    job = await queue.take_one()
    await queue.active.finish_and_take([Finish.completed(job, "1")], count, "t")
    assert ("drained" in queue.event_names()) is is_told


async def test_drained_is_not_told_by_a_paused_queue(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    await queue.producer.pause()
    await queue.active.finish_and_take([Finish.completed(job, "1")], 1, "t")
    assert "drained" not in queue.event_names()


@pytest.mark.requirement("Z-19", "M-15", "I-32")
async def test_nothing_is_kept_of_a_job_that_shall_not_be(queue: EngineQueue) -> None:
    await queue.add()
    job = await queue.take_one()
    await queue.active.log("1", "row")
    assert await finish(queue, Finish.completed(job, "7", KEEP_NONE)) == [0]
    assert queue.raw.keys(queue.keys.base + "1*") == []
    assert queue.places() == {}
    assert queue.events()[-2] == {"event": "completed", "jobId": "1", "returnvalue": "7", "prev": "active"}


@pytest.mark.requirement("M-15", "Z-19")
async def test_the_newest_are_kept_by_count(queue: EngineQueue) -> None:
    for number in range(6):
        await queue.add()
        job = await queue.take_one()
        await queue.active.log(job.id, "row")
        queue.raw.zadd(queue.keys.completed, {f"old{number}": number})
        await finish(queue, Finish.completed(job, "1", KeepPolicy(count=2)))
    assert queue.places() == {"completed": ["5", "6"]}
    assert sorted(queue.raw.keys(queue.keys.base + "[0-9]*")) == sorted(
        queue.keys.base + name for name in ("5", "5:logs", "6", "6:logs")
    )


@pytest.mark.requirement("Z-20")
async def test_what_is_too_much_goes_a_part_with_each_end(queue: EngineQueue) -> None:
    """A policy that is new to a long history would hold Redis up for seconds, were all removed by one call."""
    queue.raw.zadd(queue.keys.completed, {f"old-{number}": number for number in range(2500)})
    kept = []
    for _ in range(3):
        await queue.add()
        await queue.finish(Finish.completed(await queue.take_one(), "1", KeepPolicy(count=10)))
        kept.append(queue.raw.zcard(queue.keys.completed))
        assert queue.raw.zscore(queue.keys.completed, "old-2499") == 2499
    assert kept == [1501, 502, 10]


async def test_the_old_are_removed_by_age(queue: EngineQueue) -> None:
    now = clock.now_ms()
    for job_id, age_seconds in (("old", 100), ("older", 200), ("young", 1)):
        queue.raw.hset(queue.keys.job(job_id), "name", "n")
        queue.raw.zadd(queue.keys.failed, {job_id: now - age_seconds * 1000})
    await queue.add()
    await finish(queue, failed(await queue.take_one(), KeepPolicy(age_seconds=50)))
    assert queue.places() == {"failed": ["young", "1"]}
    assert queue.raw.exists(queue.keys.job("old")) == 0


async def test_a_limit_removes_the_youngest_of_the_old_first(queue: EngineQueue) -> None:
    now = clock.now_ms()
    for job_id, age_seconds in (("a", 300), ("b", 200), ("c", 100)):
        queue.raw.hset(queue.keys.job(job_id), "name", "n")
        queue.raw.zadd(queue.keys.completed, {job_id: now - age_seconds * 1000})
    await queue.add()
    await finish(queue, Finish.completed(await queue.take_one(), "1", KeepPolicy(age_seconds=50, limit=1)))
    assert queue.places() == {"completed": ["a", "b", "1"]}


async def test_a_batch_with_several_policies_keeps_what_one_by_one_would(queue: EngineQueue) -> None:
    for _ in range(4):
        await queue.add()
    jobs = await queue.take(4)
    policies = [KeepPolicy(count=1), KeepPolicy(count=1), KeepPolicy(), KeepPolicy()]
    await finish(queue, *(Finish.completed(job, "1", keep) for job, keep in zip(jobs, policies, strict=True)))
    assert queue.places() == {"completed": ["2", "3", "4"]}


@pytest.mark.parametrize(("ttl", "is_free"), [(None, True), (60_000, False)])
async def test_the_deduplication_id_is_freed_unless_it_has_its_time(
    queue: EngineQueue, ttl: int | None, is_free: bool
) -> None:
    await queue.add()
    queue.raw.hset(queue.keys.job("1"), "deid", "d")
    queue.raw.set(queue.keys.base + "de:d", "1", px=ttl)
    await finish(queue, Finish.completed(await queue.take_one(), "1"))
    assert (queue.raw.exists(queue.keys.base + "de:d") == 0) is is_free


async def test_drained_is_not_told_when_the_last_job_is_to_be_retried_later(queue: EngineQueue) -> None:
    await queue.add(attempts=2)
    await finish(queue, Finish.retry(await queue.take_one(), "boom", "[]", 5000))
    assert "drained" not in queue.event_names()


@pytest.mark.parametrize("value", ["x", "", "1.5", "-1", "99999999999999999999999"])
async def test_nonsense_as_the_streams_cap_stops_nothing(queue: EngineQueue, value: str) -> None:
    queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", value)
    for _ in range(2):
        await queue.add()
    jobs = await queue.take(2)
    await queue.finish(Finish.completed(jobs[0], "1"), Finish.retry(jobs[1], "", "[]", 0))
    assert {name: len(ids) for name, ids in queue.places().items()} == {"completed": 1, "wait": 1}


@pytest.mark.parametrize("value", ["x", "9223372036854775807"])
async def test_nonsense_as_the_priority_counter_loses_no_job(queue: EngineQueue, value: str) -> None:
    queue.raw.set(queue.keys.base + "pc", value)
    await queue.add(priority=2)
    job = await queue.take_one()
    queue.raw.set(queue.keys.base + "pc", value)
    await queue.finish(Finish.retry(job, "", "[]", 0))
    queue.raw.set(queue.keys.base + "pc", value)
    await queue.add(priority=1, delay=1, timestamp=1000)
    assert [job.id for job in await queue.take(2)] == ["2", "1"]


async def test_retries_of_one_call_promote_what_is_due_once(queue: EngineQueue) -> None:
    """A thousand at a time for each of them would hold Redis up."""
    for _ in range(3):
        await queue.add()
    jobs = await queue.take(3)
    queue.raw.zadd(queue.keys.delayed, {f"gone-{number}": number for number in range(2500)})
    await queue.finish(*[Finish.retry(job, "", "[]", 0) for job in jobs])
    assert queue.raw.zcard(queue.keys.delayed) == 1500
