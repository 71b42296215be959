"""Schedules: what is accepted, and which slots follow. That cron is BullMQ's is shown in tests/peers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from toril import errors
from toril.jobs import scheduler
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import CurrentJob, JobTemplate, SchedulerRecord

NOW = 1_790_000_000_000
HOUR = 3_600_000


def ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("repeat", "field"),
    [
        ({}, "repeat"),
        ({"every": 1000, "pattern": "* * * * *"}, "repeat"),
        ({"every": 0}, "repeat.every"),
        ({"every": 1.5}, "repeat.every"),
        ({"every": True}, "repeat.every"),
        ({"every": "1000"}, "repeat.every"),
        ({"every": 1000, "offset": 1000}, "repeat.offset"),
        ({"pattern": "* * * * *", "offset": 5}, "repeat.offset"),
        ({"pattern": ""}, "repeat.pattern"),
        ({"pattern": 5}, "repeat.pattern"),
        ({"pattern": "* * * * * * *"}, "repeat.pattern"),
        ({"pattern": "H * * * *"}, "repeat.pattern"),
        ({"pattern": "0 0 30 2 *"}, "repeat.pattern"),
        ({"pattern": "0 0 31 2,4 *"}, "repeat.pattern"),
        # BullMQ 5 refuses these, or reads other days.
        ({"pattern": "? * * * *"}, "repeat.pattern"),
        ({"pattern": "@weekdays"}, "repeat.pattern"),
        ({"pattern": "@minutely"}, "repeat.pattern"),
        ({"pattern": "0 0 31 4 1"}, "repeat.pattern"),
        ({"pattern": "0 0 * * 3/5"}, "repeat.pattern"),
        ({"pattern": "0 0 1 * 1-7"}, "repeat.pattern"),
        ({"pattern": "0 0 15 * MON#1"}, "repeat.pattern"),
        ({"pattern": "0 0 1-31 * MON"}, "repeat.pattern"),
        # BullMQ 6 refuses these.
        ({"pattern": "0 0 * * 5-7,0"}, "repeat.pattern"),
        ({"pattern": "0 0 L,L * *"}, "repeat.pattern"),
        ({"pattern": "*/2,*/3 * * * *"}, "repeat.pattern"),
        ({"pattern": "1,1 * * * *"}, "repeat.pattern"),
        ({"pattern": "*" * 2000}, "repeat.pattern"),
        ({"pattern": "* * * * *", "tz": "Europe/Nowhere"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "../../etc/passwd"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "localtime"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "right/Europe/Berlin"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "posix/UTC"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "Factory"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "local"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "+02:00"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "UTC+24"}, "repeat.tz"),
        ({"every": 1000, "limit": 0}, "repeat.limit"),
        ({"every": 1000, "startDate": "soon"}, "repeat.startDate"),
        ({"every": 1000, "startDate": "2030-01-01T00:00:00"}, "repeat.startDate"),
        ({"every": 1000, "endDate": 5, "startDate": 6}, "repeat.endDate"),
        ({"pattern": "* * * * *", "immediately": 1}, "repeat.immediately"),
        ({"pattern": "* * * * *", "immediately": True, "startDate": 5}, "repeat.immediately"),
        ({"every": 1000, "jitter": 5}, "repeat.jitter"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(repeat: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        Schedule.from_bullmq(repeat)
    assert caught.value.field == field


def test_dates_may_be_written_in_every_way_that_has_a_zone() -> None:
    at = ms("2030-01-01T00:00:00")
    ways = (at, float(at), "2030-01-01T00:00:00Z", "2030-01-01T01:00:00+01:00", datetime(2030, 1, 1, tzinfo=UTC))
    assert {Schedule.from_bullmq({"every": 1, "startDate": way}).start_ms for way in ways} == {at}


def test_what_is_stored_is_what_was_given() -> None:
    every = {"every": 5000, "offset": 20, "limit": 3, "startDate": 5, "endDate": 10}
    assert Schedule.from_bullmq(every).to_bullmq() == every
    pattern = {"pattern": "0 2 * * *", "tz": "Europe/Berlin"}
    assert Schedule.from_bullmq({**pattern, "immediately": True, "limit": None}).to_bullmq() == pattern


@pytest.mark.parametrize(
    ("repeat", "first"),
    [
        ({"every": HOUR}, NOW),
        ({"every": HOUR, "startDate": NOW + 5}, NOW + 5),
        ({"every": HOUR, "startDate": NOW - 5}, NOW),
        ({"every": HOUR, "offset": 60_000}, NOW // HOUR * HOUR + HOUR + 60_000),
        ({"pattern": "* * * * * *"}, NOW + 1000),
        ({"pattern": "* * * * * *", "startDate": NOW + 5500}, NOW + 6000),
        ({"pattern": "0 0 1 1 *", "immediately": True}, NOW),
        ({"pattern": "0 0 1 1 *", "endDate": NOW + HOUR}, None),
        ({"pattern": "0 0 29 2 *", "tz": "UTC"}, ms("2028-02-29T00:00:00")),
    ],
    ids=str,
)
def test_the_first_slot(repeat: dict[str, Any], first: int | None) -> None:
    assert Schedule.from_bullmq(repeat).first_slot_ms(NOW) == first


@pytest.mark.parametrize(
    ("late_ms", "expected"),
    [(0, HOUR), (HOUR, HOUR), (HOUR + 1, 2 * HOUR), (5 * HOUR - 1, 5 * HOUR), (5 * HOUR, 6 * HOUR)],
)
def test_an_interval_passes_over_what_was_missed_and_keeps_its_beat(late_ms: int, expected: int) -> None:
    slot = NOW // HOUR * HOUR + 1234
    schedule = Schedule.from_bullmq({"every": HOUR})
    assert schedule.next_slot_ms(slot, slot + late_ms, offset_ms=1234) == slot + expected


@pytest.mark.parametrize(
    ("pattern", "tz", "after", "expected"),
    [
        # The clock goes from 2 to 3: what is skipped comes an hour later by the wall.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:30", "2026-03-30T00:30"]),
        ("0 2 * * *", "America/New_York", "2026-03-08T00:00", ["2026-03-08T07:00", "2026-03-09T06:00"]),
        ("0,30 2-3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-29T01:30"]),
        # From 3 to 2: what comes twice runs the first time; hours that are open run through it twice.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00",
            ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"],
        ),
        ("0 */2 * * *", "Europe/Berlin", "2026-10-24T22:30", ["2026-10-25T00:00", "2026-10-25T03:00"]),
        ("10 0 * * *", "Africa/Cairo", "2026-04-23T12:00", ["2026-04-23T22:10", "2026-04-24T21:10"]),
    ],
)
def test_clock_changes(pattern: str, tz: str, after: str, expected: list[str]) -> None:
    schedule = Schedule.from_bullmq({"pattern": pattern, "tz": tz})
    at, found = ms(after), []
    for _ in expected:
        slot = schedule.next_slot_ms(at, at)
        assert slot is not None
        found.append(slot)
        at = slot
    assert found == [ms(each) for each in expected]


def record(fields: dict[str, str], opts: dict[str, Any] | None, **changes: Any) -> SchedulerRecord:
    job = None if opts is None else CurrentJob(True, opts, "job-name", '{"of":"job"}')
    return SchedulerRecord("s", NOW, fields, job, **changes)


def test_the_next_jobs_options_are_those_of_the_one_before() -> None:
    stored = {
        "attempts": 3, "backoff": 700, "kl": 5, "jobId": "repeat:s:1", "delay": 5, "timestamp": 1, "prevMillis": 1,
        "repeat": {"every": HOUR, "count": 4, "immediately": True, "offset": 0},
    }  # fmt: skip
    made = scheduler.next_job(record({"name": "n", "every": str(HOUR), "offset": "7", "ic": "9"}, stored), NOW)
    assert made is not None
    assert (made.after_ms, made.slot_ms, made.name) == (NOW, NOW + HOUR, "n")
    assert made.opts == {
        "attempts": 3, "backoff": {"type": "fixed", "delay": 700}, "kl": 5, "repeatJobKey": "s",
        "repeat": {"every": HOUR, "count": 5},
    }  # fmt: skip


def test_when_the_job_is_gone_the_template_counts() -> None:
    fields = {"name": "n", "every": str(HOUR), "ic": "9", "limit": "12", "opts": '{"priority":2}'}
    made = scheduler.next_job(record(fields, None), NOW)
    assert made is not None
    assert (made.priority, made.opts["repeat"]) == (2, {"every": HOUR, "limit": 12, "count": 10})
    assert scheduler.next_job(record({**fields, "limit": "9"}, None), NOW) is None
    # An older repeatable without its job has no data to go on with.
    del fields["ic"]
    assert scheduler.next_job(record(fields, None), NOW) is None


@pytest.mark.parametrize(
    "repeat",
    [
        {"every": HOUR, "count": 3, "limit": 3},
        {"every": HOUR, "count": 1, "endDate": NOW - 1},
        {"pattern": "0 0 1 1 *", "count": 1, "endDate": NOW + HOUR},
    ],
    ids=str,
)
def test_a_series_ends(repeat: dict[str, Any]) -> None:
    assert scheduler.next_job(record({"ic": "1"}, {"repeat": repeat}), NOW) is None


def test_a_pattern_goes_on_from_the_later_of_slot_and_now() -> None:
    opts = {"repeat": {"pattern": "0 * * * *", "tz": "UTC", "count": 1}}
    slot = NOW // HOUR * HOUR
    seen = SchedulerRecord("s", slot, {"ic": "1"}, CurrentJob(True, opts, "n", "{}"))
    for now, catch_up, expected in (
        (slot - 5, 0, 1),
        (slot + 1, 0, 1),
        (slot + 3 * HOUR + 1, 0, 4),
        (slot + 3 * HOUR, HOUR, 3),
    ):
        made = scheduler.next_job(seen, now, catch_up_ms=catch_up)
        assert made is not None
        assert made.slot_ms == slot + expected * HOUR
        assert made.opts["prevMillis"] == made.slot_ms


@pytest.mark.parametrize("option", ["delay", "jobId", "timestamp", "parent", "deduplication"])
def test_a_template_leaves_to_the_scheduler_what_is_its_own(option: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        JobTemplate.create("n", opts={option: 5})
    assert caught.value.field == f"opts.{option}"


def test_a_templates_data_and_options_are_checked() -> None:
    made = JobTemplate.create("n", [1], {"priority": 3, "keepLogs": 2})
    assert (made.data_json, made.opts, made.priority) == ("[1]", {"priority": 3, "kl": 2}, 3)
    with pytest.raises(errors.InvalidPayloadError):
        JobTemplate.create("n", {"a": float("nan")})
    with pytest.raises(errors.InvalidPayloadError):
        JobTemplate.create("n", "x" * 50, {"sizeLimit": 10})


@pytest.mark.parametrize("value", ["", "a\nb", "x" * 300, None, 5])
def test_ids_of_schedulers(value: Any) -> None:
    assert scheduler.checked_scheduler_id("a:b é") == "a:b é"
    with pytest.raises(errors.InvalidOptionError):
        scheduler.checked_scheduler_id(value)


def test_a_stored_record_reads_back() -> None:
    fields = {"name": "n", "pattern": "0 2 * * *", "tz": "UTC", "ic": "3", "opts": json.dumps({"kl": 1}), "data": "[1]"}
    seen = record(fields, None)
    assert (seen.job_id, seen.data, seen.opts, seen.iteration_count) == (f"repeat:s:{NOW}", [1], {"keepLogs": 1}, 3)
    assert seen.schedule == Schedule(pattern="0 2 * * *", tz="UTC")
