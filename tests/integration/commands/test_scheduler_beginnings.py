"""What a keeper of schedules says beyond BullMQ: where slots begin, how many there were, and one scheduler alone."""

from __future__ import annotations

import json

from support.engine import EngineQueue
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

HOUR_MS = 3_600_000
HOURLY = Schedule.from_bullmq({"every": HOUR_MS})
TEMPLATE = JobTemplate.create("clean")


async def test_an_interval_begins_where_it_is_told_to(queue: EngineQueue) -> None:
    made = await queue.schedulers.upsert("s", HOURLY, TEMPLATE)
    assert made is not None
    _, now_ms = await queue.schedulers.look("s")
    first_ms = (now_ms // HOUR_MS + 1) * HOUR_MS
    moved = await queue.schedulers.upsert("s", HOURLY, TEMPLATE, first_ms=first_ms)
    assert moved is not None
    assert moved.slot_ms == first_ms
    # The slot that was armed before is replaced, and the next ones are counted from the new one.
    assert queue.places() == {"delayed": [moved.job_id]}
    assert queue.raw.hget(f"{queue.keys.repeat}:s", "offset") == "0"


async def test_a_scheduler_that_was_removed_goes_on_counting(queue: EngineQueue) -> None:
    schedule = Schedule.from_bullmq({"every": HOUR_MS, "limit": 4})
    made = await queue.schedulers.upsert("s", schedule, TEMPLATE, made=3)
    assert made is not None
    assert queue.raw.hget(f"{queue.keys.repeat}:s", "ic") == "4"
    assert json.loads(queue.hash(made.job_id)["opts"])["repeat"]["count"] == 4
    # That was the last one.
    assert (await queue.schedulers.advance_one("s")).job_ids == []


async def test_one_scheduler_is_advanced_and_no_other(queue: EngineQueue) -> None:
    for scheduler_id in ("s", "other"):
        await queue.schedulers.upsert(scheduler_id, HOURLY, TEMPLATE)
    slot = int(queue.raw.zscore(queue.keys.repeat, "s"))
    other = queue.raw.zscore(queue.keys.repeat, "other")
    assert (await queue.schedulers.advance_one("s")).job_ids == [f"repeat:s:{slot + HOUR_MS}"]
    assert (await queue.schedulers.advance_one("s")).job_ids == []
    assert queue.raw.zscore(queue.keys.repeat, "other") == other


async def test_a_look_tells_the_clock_also_when_there_is_no_scheduler(queue: EngineQueue) -> None:
    seconds, _ = queue.raw.time()
    record, now_ms = await queue.schedulers.look("s")
    assert record is None
    assert 0 <= now_ms - 1000 * seconds < 60_000
