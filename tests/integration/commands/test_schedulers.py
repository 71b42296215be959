"""Job schedulers: state in, state out. What BullMQ's own peers make of them is in tests/peers/test_schedulers.py."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.contents import contents
from support.engine import EngineQueue, open_queue
from support.waiting import wait_until_async
from toril import errors
from toril.engine.getters import read_signals
from toril.engine.maintenance import advance_schedulers, promote_due
from toril.engine.schedulers import Upserted
from toril.engine.worker import Finish
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

HOUR_MS = 3_600_000


async def upsert(
    queue: EngineQueue, scheduler_id: str = "s", template: JobTemplate | None = None, **repeat: Any
) -> Upserted:
    """Store a scheduler with BullMQ's names; it must have a slot."""
    schedule = Schedule.from_bullmq(repeat or {"every": HOUR_MS})
    made = await queue.schedulers.upsert(scheduler_id, schedule, template or JobTemplate.create())
    assert made is not None
    return made


def slots(queue: EngineQueue, scheduler_id: str = "s") -> list[int]:
    """Slots of all jobs of a scheduler, whatever became of them."""
    start = f"{queue.keys.repeat}:{scheduler_id}:"
    names = [key.removeprefix(start) for key in queue.raw.keys(start + "*")]
    return sorted(int(name) for name in names if name.isdigit())


def make_older(queue: EngineQueue, job_id: str, by_ms: int) -> str:
    """Move a waiting job's slot back in time, as if nobody had been there since. Returns its new id."""
    start, _, slot = job_id.rpartition(":")
    older = f"{start}:{int(slot) - by_ms}"
    queue.raw.rename(queue.keys.job(job_id), queue.keys.job(older))
    queue.raw.lrem(queue.keys.wait, 1, job_id)
    queue.raw.lpush(queue.keys.wait, older)
    queue.raw.zadd(queue.keys.repeat, {start.removeprefix("repeat:"): int(slot) - by_ms})
    return older


async def test_the_first_job_of_an_interval_is_made_at_once(queue: EngineQueue) -> None:
    template = JobTemplate.create("clean", {"size": 50}, {"attempts": 3, "backoff": 700})
    made = await upsert(queue, "nightly", template, every=HOUR_MS, limit=9)
    assert queue.places() == {"wait": [made.job_id]}
    assert queue.raw.zscore(queue.keys.repeat, "nightly") == made.slot_ms
    stored = queue.raw.hgetall(f"{queue.keys.repeat}:nightly")
    opts = json.loads(stored.pop("opts"))
    assert opts == {"attempts": 3, "backoff": {"type": "fixed", "delay": 700}}
    offset = str(made.slot_ms % HOUR_MS)
    expected = {
        "name": "clean",
        "data": '{"size":50}',
        "every": str(HOUR_MS),
        "limit": "9",
        "offset": offset,
        "ic": "1",
    }
    assert stored == expected
    job = queue.hash(made.job_id)
    job_opts = json.loads(job.pop("opts"))
    assert job_opts["repeat"] == {"every": HOUR_MS, "limit": 9, "count": 1}
    assert (job["rjk"], job["name"], job["data"], job["delay"]) == ("nightly", "clean", '{"size":50}', "0")
    assert queue.event_names() == ["added", "waiting"]
    assert queue.raw.get(queue.keys.id) == "1"


async def test_the_next_job_is_made_when_one_is_taken(queue: EngineQueue) -> None:
    made = await upsert(queue)
    job = await queue.take_one()
    advanced = await queue.schedulers.advance({"s": job.id})
    following = f"repeat:s:{made.slot_ms + HOUR_MS}"
    assert advanced.job_ids == [following]
    assert queue.places() == {"active": [job.id], "delayed": [following]}
    assert queue.raw.hget(f"{queue.keys.repeat}:s", "ic") == "2"
    # Anybody may try again.
    assert (await queue.schedulers.advance({"s": job.id})).job_ids == []
    assert (await queue.schedulers.advance_due()).job_ids == []
    assert slots(queue) == [made.slot_ms, made.slot_ms + HOUR_MS]


async def test_a_job_that_waits_keeps_the_next_one_back_unless_asked(queue: EngineQueue) -> None:
    made = await upsert(queue)
    turn = await queue.schedulers.advance_due()
    assert (turn.job_ids, turn.next_slot_ms) == ([], None)
    turn = await advance_schedulers.run_once(queue.connection, queue.keys, also_waiting=True)
    assert turn.job_ids == [f"repeat:s:{made.slot_ms + HOUR_MS}"]
    assert turn.next_slot_ms == made.slot_ms + HOUR_MS


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "removed"])
async def test_a_chain_that_a_worker_left_broken_is_mended_by_anyone(queue: EngineQueue, is_kept: bool) -> None:
    made = await upsert(queue, template=JobTemplate.create(data=7, opts={"removeOnComplete": not is_kept}))
    job = await queue.take_one()
    if not is_kept:
        await queue.finish(Finish.completed(job, "1"))
        queue.raw.delete(queue.keys.job(job.id))
    turn = await queue.schedulers.advance_due()
    assert turn.job_ids == [f"repeat:s:{made.slot_ms + HOUR_MS}"]
    following = queue.hash(turn.job_ids[0])
    assert following["data"] == "7"
    assert json.loads(following["opts"])["repeat"] == {"every": HOUR_MS, "count": 2}


async def test_without_workers_every_slot_gets_its_job(queue: EngineQueue) -> None:
    made = await upsert(queue, every=50)

    async def are_made() -> bool:
        await queue.schedulers.advance_due(also_waiting=True, catch_up_ms=60_000)
        return len(slots(queue)) >= 8

    await wait_until_async(are_made, "eight slots")
    assert slots(queue)[:8] == [made.slot_ms + 50 * number for number in range(8)]


async def test_missed_slots_are_one_job_or_all_of_them(queue: EngineQueue) -> None:
    first = (await upsert(queue, "one")).slot_ms - 5 * HOUR_MS
    make_older(queue, f"repeat:one:{first + 5 * HOUR_MS}", 5 * HOUR_MS)
    await queue.schedulers.advance_due(also_waiting=True)
    assert slots(queue, "one") == [first, first + 6 * HOUR_MS]

    first = (await upsert(queue, "many")).slot_ms - 5 * HOUR_MS
    make_older(queue, f"repeat:many:{first + 5 * HOUR_MS}", 5 * HOUR_MS)
    turn = await queue.schedulers.advance_due(also_waiting=True, catch_up_ms=100 * HOUR_MS)
    assert slots(queue, "many") == [first + HOUR_MS * number for number in range(7)]
    assert turn.job_ids == [f"repeat:many:{first + HOUR_MS * number}" for number in range(1, 7)]
    record = await queue.schedulers.get("many")
    assert record is not None
    assert (record.slot_ms, record.iteration_count) == (first + 6 * HOUR_MS, 7)


async def test_several_advancers_at_once_make_each_job_once(queue: EngineQueue, redis_url: str) -> None:
    ids = [f"s:{number}" for number in range(20)]
    for scheduler_id in ids:
        await upsert(queue, scheduler_id, every=HOUR_MS)
    async with open_queue(redis_url, queue.keys.queue) as second:
        turns = await asyncio.gather(
            *(each.schedulers.advance_due(also_waiting=True) for each in (queue, second, queue, second))
        )
    made = [job_id for turn in turns for job_id in turn.job_ids]
    assert len(made) == len(set(made)) == 20
    assert len(queue.places()["delayed"]) == 20


async def test_a_limit_and_an_end_stop_the_series_and_leave_the_record(queue: EngineQueue) -> None:
    await upsert(queue, "limited", every=HOUR_MS, limit=1)
    await upsert(queue, "ended", every=HOUR_MS, endDate=2**42)
    job = await queue.take_one()
    assert (await queue.schedulers.advance({"limited": job.id})).job_ids == []
    queue.raw.hset(
        queue.keys.job((await queue.take_one()).id), "opts", '{"repeat":{"every":3600000,"count":1,"endDate":5}}'
    )
    assert (await queue.schedulers.advance_due(also_waiting=True)).job_ids == []
    assert await queue.schedulers.count() == 2


async def test_an_upsert_after_its_end_is_refused(queue: EngineQueue) -> None:
    with pytest.raises(errors.InvalidOptionError, match="endDate"):
        await upsert(queue, every=HOUR_MS, endDate=1000)
    assert queue.raw.keys(queue.keys.base + "*") == []


async def test_a_repeated_upsert_replaces_the_armed_job_and_keeps_its_slot(queue: EngineQueue) -> None:
    made = await upsert(queue)
    again = await upsert(queue, template=JobTemplate.create(data=2))
    assert again == made
    assert queue.places() == {"wait": [made.job_id]}
    assert queue.hash(made.job_id)["data"] == "2"
    changed = await upsert(queue, every=HOUR_MS // 2)
    assert changed.slot_ms >= made.slot_ms
    assert queue.places() == {"wait": [changed.job_id]}


@pytest.mark.parametrize("layout", ["5", "6"])
@pytest.mark.parametrize("options", [{}, {"priority": 3}], ids=["plain", "prioritized"])
async def test_a_repeated_upsert_on_a_paused_queue_leaves_one_job(
    redis_url: str, queue_name: str, layout: Any, options: dict[str, Any]
) -> None:
    async with open_queue(redis_url, queue_name, layout) as queue:
        template = JobTemplate.create(opts=options)
        made = await upsert(queue, template=template)
        await queue.producer.pause()
        assert await upsert(queue, template=template) == made
        assert sorted(queue.places().values()) == [[made.job_id]]


async def test_an_upsert_while_the_job_runs_arms_the_next_slot(queue: EngineQueue) -> None:
    made = await upsert(queue)
    job = await queue.take_one()
    again = await upsert(queue, template=JobTemplate.create(data=2))
    assert again.slot_ms == made.slot_ms + HOUR_MS
    assert (await queue.schedulers.advance({"s": job.id})).job_ids == []
    assert queue.places() == {"active": [job.id], "delayed": [again.job_id]}


async def test_an_upsert_passes_over_slots_that_have_jobs(queue: EngineQueue) -> None:
    made = await upsert(queue, every=HOUR_MS)
    job = await queue.take_one()
    await queue.finish(Finish.completed(job, "1"))
    for number in (1, 2):
        queue.raw.hset(f"{queue.keys.repeat}:s:{made.slot_ms + number * HOUR_MS}", "name", "older")
    assert (await upsert(queue)).slot_ms == made.slot_ms + 3 * HOUR_MS


async def test_a_next_job_that_is_there_already_is_not_made_again(queue: EngineQueue) -> None:
    made = await upsert(queue)
    job = await queue.take_one()
    queue.raw.hset(f"{queue.keys.repeat}:s:{made.slot_ms + HOUR_MS}", mapping={"name": "older", "ats": "1"})
    assert (await queue.schedulers.advance({"s": job.id})).job_ids == []
    assert queue.event_names()[-1] == "duplicated"
    record = await queue.schedulers.get("s")
    assert record is not None
    assert (record.slot_ms, record.iteration_count) == (made.slot_ms + HOUR_MS, 1)


async def test_removing_takes_the_delayed_job_along_and_lets_others_run(queue: EngineQueue) -> None:
    await upsert(queue, "delayed", every=HOUR_MS, startDate=2**42)
    await upsert(queue, "waiting", every=HOUR_MS)
    assert await queue.schedulers.remove("delayed")
    assert await queue.schedulers.remove("waiting")
    assert not await queue.schedulers.remove("waiting")
    assert [name for name in queue.event_names() if name == "removed"] == ["removed"]
    (job,) = queue.places()["wait"]
    assert queue.raw.keys(queue.keys.repeat + "*") == [queue.keys.job(job)]
    # The name of a job is not that of a scheduler.
    assert not await queue.schedulers.remove(job.removeprefix("repeat:"))
    assert queue.hash(job)


async def test_lists_and_single_records(queue: EngineQueue) -> None:
    template = JobTemplate.create("n", {"a": 1}, {"keepLogs": 3})
    await upsert(queue, "a:b", template, pattern="0 2 * * *", tz="Europe/Berlin", limit=4)
    await upsert(queue, "every", every=HOUR_MS)
    assert [record.id for record in await queue.schedulers.list()] == ["every", "a:b"]
    assert [record.id for record in await queue.schedulers.list(1, 1)] == ["a:b"]
    record = await queue.schedulers.get("a:b")
    assert record is not None
    assert record.schedule == Schedule.from_bullmq({"pattern": "0 2 * * *", "tz": "Europe/Berlin", "limit": 4})
    assert (record.name, record.data, record.opts, record.iteration_count) == ("n", {"a": 1}, {"keepLogs": 3}, 1)
    assert await queue.schedulers.get("none") is None
    assert await queue.schedulers.count() == 2


async def test_a_scheduler_that_makes_no_sense_is_told_and_stops_no_other(queue: EngineQueue) -> None:
    made = await upsert(queue, "good")
    for number, opts in enumerate(
        ("[1]", "no JSON", '{"repeat":5}', '{"repeat":{"every":[1],"count":"x"}}', '{"repeat":{"tz":7}}')
    ):
        bad = await upsert(queue, f"bad-{number}")
        queue.raw.hset(queue.keys.job(bad.job_id), "opts", opts)
        queue.raw.hset(f"{queue.keys.repeat}:bad-{number}", mapping={"every": "often", "opts": opts})
        queue.raw.hdel(queue.keys.job(bad.job_id), *(["name", "opts"] if number < 2 else ["ats"]))
    queue.raw.zadd(queue.keys.repeat, {b"not \xff text": 7, "fraction": 7.5, "wrong-type": 8, "never": "-inf"})
    queue.raw.set(f"{queue.keys.repeat}:wrong-type", "text")
    queue.raw.hset(f"{queue.keys.repeat}:far", mapping={"pattern": "* * * * *", "ic": "1"})
    queue.raw.zadd(queue.keys.repeat, {"far": 9})
    queue.raw.hset(
        f"{queue.keys.repeat}:far:9", mapping={"opts": '{"repeat":{"pattern":"* * * * *","startDate":9e15}}'}
    )
    bad = await upsert(queue, "bad")
    queue.raw.hset(queue.keys.job(bad.job_id), "opts", '{"repeat":{"pattern":"W W W"}}')
    queue.raw.hset(f"{queue.keys.repeat}:bad", mapping={"pattern": "W W W"})
    queue.raw.zadd(queue.keys.repeat, {"empty": 5})
    turn = await queue.schedulers.advance_due(also_waiting=True)
    assert turn.job_ids == [f"repeat:good:{made.slot_ms + HOUR_MS}"]
    assert "repeat.pattern" in turn.problems["bad"]
    assert "good" not in turn.problems
    await queue.schedulers.list()


async def test_stuck_schedulers_are_found_behind_any_number_of_ended_ones(queue: EngineQueue) -> None:
    raw, repeat = queue.raw, queue.keys.repeat
    for number in range(25):
        raw.hset(f"{repeat}:ended-{number}", mapping={"every": HOUR_MS, "limit": 1, "ic": 1})
        raw.zadd(repeat, {f"ended-{number}": number})
    raw.hset(f"{repeat}:odd", mapping={"pattern": "FREQ=DAILY", "ic": 1})
    raw.zadd(repeat, {"odd": 1000, "no-hash": 1000})
    await upsert(queue, "good")
    before = contents(raw, "*")
    (signals,) = await read_signals(queue.connection, [queue.keys])
    assert not isinstance(signals, errors.RedisError)
    assert signals.overdue_schedulers == 27
    stuck = await queue.schedulers.stuck()
    assert list(stuck) == ["odd"]
    assert "FREQ" in stuck["odd"]
    assert contents(raw, "*") == before


async def test_a_repeatable_of_the_older_kind_keeps_its_data(queue: EngineQueue) -> None:
    raw, keys = queue.raw, queue.keys
    raw.hset(f"{keys.repeat}:old", mapping={"name": "report", "every": HOUR_MS})
    raw.zadd(keys.repeat, {"old": HOUR_MS})
    opts = json.dumps({"repeat": {"every": HOUR_MS, "count": 4}, "attempts": 2})
    job = {"name": "report", "data": '{"x":1}', "opts": opts, "rjk": "old", "timestamp": 1, "delay": 0, "priority": 0}
    raw.hset(f"{keys.repeat}:old:{HOUR_MS}", mapping=job)
    raw.lpush(keys.wait, f"repeat:old:{HOUR_MS}")
    taken = await queue.take_one()
    (following,) = (await queue.schedulers.advance({"old": taken.id})).job_ids
    assert queue.hash(following)["data"] == '{"x":1}'
    assert json.loads(queue.hash(following)["opts"])["repeat"]["count"] == 5
    assert raw.hgetall(f"{keys.repeat}:old")["data"] == '{"x":1}'


@pytest.mark.requirement("T22")
async def test_due_jobs_are_promoted_once_in_order_by_any_number_of_processes(
    queue: EngineQueue, redis_url: str
) -> None:
    ids = [await queue.add(delay=1, timestamp=1000 + number, priority=number % 3) for number in range(30)]
    later = await queue.add(delay=HOUR_MS)
    async with open_queue(redis_url, queue.keys.queue) as second:
        turns = await asyncio.gather(
            promote_due.run_once(queue.connection, queue.keys),
            promote_due.run_once(second.connection, second.keys),
            queue.take(5),
        )
    taken = turns[2] + await queue.take(25)
    assert [job.id for job in taken] == ids[0::3] + ids[1::3] + ids[2::3]
    assert queue.places()["delayed"] == [later]
    names = [event["jobId"] for event in queue.events() if event.get("prev") == "delayed"]
    assert sorted(names) == sorted(ids)


async def test_promotion_mends_lost_tokens(queue: EngineQueue) -> None:
    await queue.add()
    later = await queue.add(delay=HOUR_MS)
    queue.raw.delete(queue.keys.marker)
    turn = await promote_due.run_once(queue.connection, queue.keys)
    (score,) = (int(queue.raw.zscore(queue.keys.delayed, later)) // 4096,)
    assert (turn.count, turn.next_due_ms) == (0, score)
    assert queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True) == [("0", 0), ("1", score)]
    queue.raw.delete(queue.keys.marker)
    await queue.producer.pause()
    await promote_due.run_once(queue.connection, queue.keys)
    assert queue.raw.zrange(queue.keys.marker, 0, -1) == ["1"]


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("place", ["delayed", "events", "wait", "marker"])
async def test_a_key_of_another_type_is_told_and_nothing_is_half_made(queue: EngineQueue, place: str) -> None:
    await upsert(queue, "there", every=HOUR_MS, startDate=2**42)
    job_id = "repeat:there:" + str(2**42)
    queue.raw.delete(queue.keys.base + place)
    queue.raw.set(queue.keys.base + place, "text")
    queue.raw.hset(queue.keys.job(job_id), "ats", "1")
    before = contents(queue.raw)
    with pytest.raises(errors.WrongKeyTypeError):
        await upsert(queue, "new")
    with pytest.raises(errors.WrongKeyTypeError):
        await queue.schedulers.advance({"there": job_id})
    assert contents(queue.raw) == before
