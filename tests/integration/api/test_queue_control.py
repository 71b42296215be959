"""Steering a queue and its jobs with the public API, with an event loop and without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from support.engine import EngineQueue
from toril import Queue, errors
from toril.engine.events import QueueEvent
from toril.engine.worker import Finish


def steer(queue: Queue) -> list[Any]:
    """Everything once, from plain code, on a queue with one failed and one completed job."""
    sync = queue.sync
    bad, done = queue.handle("bad").sync, queue.handle("done").sync
    answers: list[Any] = [sync.counts()["failed"], [job.id for job in sync.jobs("failed", "completed")]]
    bad.retry(reset_attempts=True)
    done.progress(70)
    done.update_data({"n": 2})
    answers += [done.log("a"), done.log("b\ud800", keep=1), done.logs().rows, done.job().progress, done.job().data]
    done.clear_logs()
    answers += [done.logs(newest_first=True).count, sync.pause(), sync.is_paused(), sync.resume()]
    later = sync.add("n", {}, {"delay": 60_000})
    later.change_delay(timedelta(hours=1))
    later.change_priority(3)
    later.promote()
    answers += [sync.counts_by_priority([0, 3]), sync.workers(), sync.event_readers(), sync.metrics("failed").count]
    done.remove()
    sync.add("n", {}, {"delay": 60_000})
    answers += [sync.promote_all(), sync.drain(delayed=True), sync.retry_all(), sync.clean("waiting", older_than=60)]
    sync.publish_event("deployed", {"version": 7})
    sync.obliterate()
    return answers


async def steer_async(queue: Queue) -> list[Any]:
    """The same with an event loop."""
    bad, done = queue.handle("bad"), queue.handle("done")
    answers: list[Any] = [(await queue.counts())["failed"], [job.id for job in await queue.jobs("failed", "completed")]]
    await bad.retry(reset_attempts=True)
    await done.progress(70)
    await done.update_data({"n": 2})
    answers += [await done.log("a"), await done.log("b\ud800", keep=1), (await done.logs()).rows]
    answers += [(await done.job()).progress, (await done.job()).data]
    await done.clear_logs()
    answers += [(await done.logs(newest_first=True)).count]
    answers += [await queue.pause(), await queue.is_paused(), await queue.resume()]
    later = await queue.add("n", {}, {"delay": 60_000})
    await later.change_delay(timedelta(hours=1))
    await later.change_priority(3)
    await later.promote()
    answers += [await queue.counts_by_priority([0, 3]), await queue.workers(), await queue.event_readers()]
    answers += [(await queue.metrics("failed")).count]
    await done.remove()
    await queue.add("n", {}, {"delay": 60_000})
    answers += [await queue.promote_all(), await queue.drain(delayed=True), await queue.retry_all()]
    answers += [await queue.clean("waiting", older_than=60)]
    await queue.publish_event("deployed", {"version": 7})
    await queue.obliterate()
    return answers


@pytest.mark.requirement("I-22", "I-23", "I-32")
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
async def test_everything_once(tasks: Queue, stored: EngineQueue, is_async: bool) -> None:
    for job_id in ("bad", "done"):
        await stored.add(jobId=job_id)
    bad, done = await stored.take(2)
    await stored.finish(Finish.failed(bad, "no", "[]"), Finish.completed(done, "1"))
    answers = await (steer_async(tasks) if is_async else asyncio.to_thread(steer, tasks))
    assert answers == [
        1, ["bad", "done"], 1, 1, ["b?"], 70, {"n": 2}, 0, True, True, True, {0: 1, 3: 1}, [], [], 0, 1, 3, 0, [],
    ]  # fmt: skip
    assert stored.raw.keys("*") == []


REFUSED: dict[str, tuple[str, Callable[[Queue], Any]]] = {
    "a-state-that-is-none": ("state", lambda queue: queue.clean("wait")),
    "no-state-to-retry": ("state", lambda queue: queue.retry_all("delayed")),  # type: ignore[arg-type]
    "a-time-without-zone": ("until", lambda queue: queue.retry_all(until=datetime(2026, 1, 1))),
    "a-negative-age": ("older_than", lambda queue: queue.clean("failed", older_than=-1)),
    "a-negative-limit": ("limit", lambda queue: queue.clean("failed", limit=-1)),
    "a-rank-below-0": ("first", lambda queue: queue.jobs("failed", first=-2)),
    "too-high-a-priority": ("priority", lambda queue: queue.handle("1").change_priority(2**21)),
    "a-delay-that-is-none": ("delay", lambda queue: queue.handle("1").change_delay(float("nan"))),
    "an-event-of-bullmq": ("name", lambda queue: queue.publish_event("completed")),
    "an-event-with-a-number-as-field": ("fields.1", lambda queue: queue.publish_event("mine", {1: "a"})),  # type: ignore[dict-item]
    "an-event-that-is-no-text": ("name", lambda queue: queue.publish_event("\ud800")),
    "an-event-with-an-object": ("fields.a", lambda queue: queue.publish_event("mine", {"a": {}})),  # type: ignore[dict-item]
    "progress-that-is-no-json": ("progress", lambda queue: queue.handle("1").progress(float("inf"))),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_input_names_its_field_and_writes_nothing(tasks: Queue, stored: EngineQueue, name: str) -> None:
    field, call = REFUSED[name]
    with pytest.raises(errors.InvalidInputError) as refused:
        await call(tasks)
    assert refused.value.field == field
    assert stored.raw.keys("*") == []


async def test_a_key_of_the_wrong_type_is_named(tasks: Queue, stored: EngineQueue) -> None:
    stored.raw.set(stored.keys.wait, "not ours")
    with pytest.raises(errors.WrongKeyTypeError, match="wait holds a string"):
        await tasks.drain()
    with pytest.raises(errors.WrongKeyTypeError, match="wait holds a string"):
        await asyncio.to_thread(tasks.sync.jobs, "waiting")


async def test_only_jobs_that_failed_before(tasks: Queue, stored: EngineQueue) -> None:
    await stored.add()
    await stored.finish(Finish.failed(await stored.take_one(), "no", "[]"))
    assert await tasks.retry_all(until=datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert await tasks.retry_all(until=datetime.now(UTC) + timedelta(minutes=1)) == 1


@pytest.mark.requirement("C-26", "I-32", "X-26")
async def test_a_cleaning_once_a_day(tasks: Queue, stored: EngineQueue) -> None:
    hours = {"c-1": 1, "c-23": 23, "c-25": 25, "f-25": 25, "f-167": 167, "f-169": 169}
    for job_id in hours:
        await stored.add(jobId=job_id)
    jobs = await stored.take(6)
    await stored.finish(
        *[Finish.completed(job, "1") for job in jobs[:3]], *[Finish.failed(job, "no", "[]") for job in jobs[3:]]
    )
    now_ms = int(stored.raw.time()[0]) * 1000
    for job_id, age in hours.items():
        key = stored.keys.completed if job_id.startswith("c") else stored.keys.failed
        stored.raw.zadd(key, {job_id: now_ms - age * 3_600_000})
    assert await tasks.clean("completed", older_than=timedelta(hours=24)) == ["c-25"]
    assert await tasks.clean("failed", older_than=timedelta(days=7), limit=1000) == ["f-169"]
    assert stored.places() == {"completed": ["c-23", "c-1"], "failed": ["f-167", "f-25"]}


@pytest.mark.requirement("C-12")
async def test_one_call_tells_where_a_job_is_and_how_far(tasks: Queue, stored: EngineQueue) -> None:
    handle = await tasks.add("render", {"video": 7}, {"attempts": 3})
    (job,) = await stored.take()
    await stored.finish(Finish.retry(job, "busy", "[]", 0))
    await stored.take()
    await handle.progress(50)
    for state, found in (await handle.state_and_job(), await asyncio.to_thread(handle.sync.state_and_job)):
        assert (state, found.id, found.progress, found.attempts_made) == ("active", handle.id, 50, 1)
        assert found.data == {"video": 7}


async def test_a_job_without_parent_or_children(tasks: Queue) -> None:
    handle = await tasks.add("n", {})
    await handle.remove_unprocessed_children()
    with pytest.raises(errors.JobStateError, match="has no parent"):
        await handle.leave_parent()
    await asyncio.to_thread(handle.sync.remove_unprocessed_children)
    with pytest.raises(errors.JobStateError, match="has no parent"):
        await asyncio.to_thread(handle.sync.leave_parent)


async def test_events_of_ones_own(tasks: Queue, stored: EngineQueue) -> None:
    stored.raw.hset(stored.keys.meta, "opts.maxLenEvents", 500)
    async with tasks.events() as events:
        event_id = await tasks.publish_event("deployed", {"jobId": "7", "version": 3})
        event = await asyncio.wait_for(anext(events), 30)
    assert event == QueueEvent(event_id, "deployed", "7", {"version": "3"})


async def test_workers_of_bullmq_for_python_are_seen_each_once(tasks: Queue, stored: EngineQueue) -> None:
    """It names both connections of a worker, and after the queue as it is (its release 3.4)."""
    names = {"": [True, False, True, False], ":w:one": [True, False], ":w:starting": [False, False], "-other": [True]}
    where = stored.settings
    opened = []
    for suffix, waits in names.items():
        for has_waited in waits:
            client = redis.Redis(where.host, where.port, where.db, single_connection_client=True)
            client.client_setname(f"bull:{tasks.name}{suffix}")
            if has_waited:
                client.bzpopmin("nothing", 0.01)
            opened.append(client)
    found = await tasks.workers()
    assert sorted(worker.name for worker in found) == ["", "", "one", "starting"]
    for client in opened:
        client.close()
