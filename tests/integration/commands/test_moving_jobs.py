"""Letting jobs run that are delayed or have ended, and changing when they run: `promote_job`, `retry_job`,
`requeue_jobs`, `change_delay`, `change_priority`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.engine import EngineQueue
from toril import clock, errors
from toril.engine import administration, operations
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.redis.connection import Call
from toril.engine.worker import Finish

HOUR_MS = 3_600_000


async def test_a_promoted_job_runs_next_but_for_those_that_wait(queue: EngineQueue) -> None:
    await queue.add()
    await queue.add(delay=HOUR_MS)
    await queue.add(delay=HOUR_MS, priority=3)
    queue.raw.delete(queue.keys.marker)
    await operations.execute(queue.connection, administration.promote(queue.keys, "2"))
    await operations.execute(queue.connection, administration.promote(queue.keys, "3"))
    assert queue.places() == {"wait": ["1", "2"], "prioritized": ["3"]}
    assert queue.hash("2")["delay"] == queue.hash("3")["delay"] == "0"
    assert queue.events()[-1] == {"event": "waiting", "jobId": "3", "prev": "delayed"}
    assert queue.raw.zscore(queue.keys.marker, "0") == 0


async def test_nobody_is_woken_for_a_paused_queue(queue: EngineQueue) -> None:
    await queue.add(delay=HOUR_MS)
    await queue.producer.pause()
    await operations.execute(queue.connection, administration.promote(queue.keys, "1"))
    assert queue.raw.exists(queue.keys.marker) == 0


async def test_a_retried_job_forgets_its_end_and_keeps_its_attempts(queue: EngineQueue) -> None:
    await queue.add(attempts=1)
    await queue.finish(Finish.failed(await queue.take_one(), "no", '["t"]', attempts=1))
    await operations.execute(queue.connection, administration.retry(queue.keys, "1"))
    stored = queue.hash("1")
    assert not {"finishedOn", "processedOn", "failedReason"} & stored.keys()
    assert (stored["atm"], stored["ats"], stored["stacktrace"]) == ("1", "1", '["t"]')
    assert queue.places() == {"wait": ["1"]}
    with pytest.raises(errors.JobStateError, match=r"job 1 of queue .* is not failed"):
        await operations.execute(queue.connection, administration.retry(queue.keys, "1"))


async def test_attempts_counted_anew(queue: EngineQueue) -> None:
    await queue.add()
    await queue.finish(Finish.completed(await queue.take_one(), "1"))
    again = administration.retry(queue.keys, "1", "completed", reset_attempts_made=True, reset_attempts_started=True)
    await operations.execute(queue.connection, again)
    assert not {"atm", "ats", "returnvalue"} & queue.hash("1").keys()
    assert (await queue.take_one()).attempts_started == 1


async def test_many_failed_jobs_go_in_several_calls_oldest_first(
    queue: EngineQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "JOBS_PER_CALL", 3)
    for _ in range(8):
        await queue.add()
    await queue.finish(*[Finish.failed(job, "no", "[]") for job in await queue.take(8)])
    queue.raw.zadd(queue.keys.failed, {"gone": 1})
    ids = queue.raw.zrange(queue.keys.failed, 0, -1)[1:]
    assert await operations.execute(queue.connection, administration.retry_all(queue.keys)) == 8
    assert queue.places() == {"wait": ids}


async def test_only_jobs_that_failed_until_then(queue: EngineQueue) -> None:
    for _ in range(2):
        await queue.add()
        await queue.finish(Finish.failed(await queue.take_one(), "no", "[]"))
    queue.raw.zadd(queue.keys.failed, {"1": 1000, "2": 3000})
    assert await operations.execute(queue.connection, administration.retry_all(queue.keys, until_ms=2000)) == 1
    assert queue.places() == {"wait": ["1"], "failed": ["2"]}


async def test_jobs_delayed_anew_while_all_are_promoted_stay(
    queue: EngineQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration, "JOBS_PER_CALL", 2)
    for _ in range(3):
        await queue.add(delay=HOUR_MS)
    work = administration.promote_all(queue.keys)
    step = next(work)
    assert isinstance(step, Call)
    moved = await queue.connection.run(step)
    assert moved[:2] == (2, 1)
    for _ in range(2):
        await queue.add(delay=HOUR_MS)
    step = work.send(moved)
    assert isinstance(step, Call)
    with pytest.raises(StopIteration) as end:
        work.send(await queue.connection.run(step))
    assert end.value.value == 4
    assert len(queue.places()["delayed"]) == 1


async def test_a_delay_counts_from_now(queue: EngineQueue) -> None:
    await queue.add(delay=HOUR_MS)
    before = clock.now_ms()
    await operations.execute(queue.connection, administration.change_delay(queue.keys, "1", 50_000))
    due_ms = queue.raw.zscore(queue.keys.delayed, "1") / 4096
    assert before + 49_000 <= due_ms <= clock.now_ms() + 51_000
    assert queue.hash("1")["delay"] == "50000"
    assert int(queue.events()[-1]["delay"]) == due_ms == queue.raw.zscore(queue.keys.marker, "1")


async def test_a_waiting_job_takes_its_new_place(queue: EngineQueue) -> None:
    for priority in (0, 0, 5, 5):
        await queue.add(priority=priority)
    for job_id, priority, lifo in (("1", 5, False), ("4", 5, True), ("2", 0, True), ("3", 0, False)):
        await operations.execute(
            queue.connection, administration.change_priority(queue.keys, job_id, priority, lifo=lifo)
        )
    assert queue.places() == {"wait": ["2", "3"], "prioritized": ["4", "1"]}
    assert [queue.hash(job_id)["priority"] for job_id in "1234"] == ["5", "0", "0", "5"]


MOVES: dict[str, tuple[str, Callable[[QueueKeys], Operation[object]]]] = {
    "promote": ("wait", lambda keys: administration.promote(keys, "later")),
    "promote-all": ("wait", administration.promote_all),
    "retry": ("wait", lambda keys: administration.retry(keys, "bad")),
    "retry-all": ("events", administration.retry_all),
    "change-priority": ("prioritized", lambda keys: administration.change_priority(keys, "waits", 3)),
    "drain": ("events", administration.drain),
}


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("name", MOVES)
async def test_a_key_of_the_wrong_type_loses_no_job(queue: EngineQueue, name: str) -> None:
    broken, make = MOVES[name]
    await queue.add(jobId="bad")
    await queue.finish(Finish.failed(await queue.take_one(), "no", "[]"))
    await queue.add(jobId="later", delay=HOUR_MS)
    await queue.add(jobId="waits")
    places = queue.places()
    queue.raw.rename(queue.keys.base + broken, "aside") if queue.raw.exists(queue.keys.base + broken) else None
    queue.raw.set(queue.keys.base + broken, "not ours")
    with pytest.raises(errors.WrongKeyTypeError):
        await operations.execute(queue.connection, make(queue.keys))
    queue.raw.delete(queue.keys.base + broken)
    queue.raw.rename("aside", queue.keys.base + broken) if queue.raw.exists("aside") else None
    assert queue.places() == places
