"""Patterns of callers and of stored series. That they mean what BullMQ means is shown in tests/peers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from toril import errors
from toril.jobs import cron_pattern
from toril.jobs.cron_dialect import Dialect
from toril.jobs.schedule import Schedule

# A Tuesday.
NOW = round(datetime(2026, 9, 1, 12, tzinfo=UTC).timestamp() * 1000)


def following(repeat: dict[str, Any], writer: str, seed: str = "s") -> str:
    slot = Schedule.from_stored(repeat, Dialect(writer), seed).next_slot_ms(NOW, NOW)
    assert slot is not None
    return datetime.fromtimestamp(slot / 1000, UTC).isoformat(timespec="seconds")[5:-6]


@pytest.mark.parametrize(
    ("repeat", "in_5", "in_6"),
    [
        # Read by one version only: that one has written it, whatever the queue says of itself.
        ({"pattern": "0 */4,*/6 * * *"}, "09-01T16:00:00", "09-01T16:00:00"),
        ({"pattern": "? 13 * * *"}, "09-01T13:00:00", "09-01T13:00:00"),
        ({"pattern": "@weekends"}, "09-05T00:00:00", "09-05T00:00:00"),
        # Read by both, as different days.
        ({"pattern": "0 0 * * 3/5"}, "09-02T00:00:00", "09-02T00:00:00"),
        ({"pattern": "0 0 * * 4/4"}, "09-03T00:00:00", "09-03T00:00:00"),
        ({"pattern": "0 0 * * 5/5"}, "09-04T00:00:00", "09-04T00:00:00"),
        ({"pattern": "0 0 15 * 1-7"}, "09-15T00:00:00", "09-02T00:00:00"),
        ({"pattern": "0 0 20 * TUE#4"}, "09-22T00:00:00", "09-20T00:00:00"),
        # Zones.
        ({"pattern": "0 0 * * *", "tz": "europe/berlin"}, "09-01T22:00:00", "09-01T22:00:00"),
        ({"pattern": "0 0 * * *", "tz": "utc+5:30"}, "09-01T18:30:00", "09-01T18:30:00"),
        ({"pattern": "0 0 * * *", "tz": "+02:00"}, "09-01T22:00:00", "09-01T22:00:00"),
        ({"pattern": "0 0 * * *", "tz": "local"}, "09-02T00:00:00", "09-02T00:00:00"),
        ({"pattern": "0 0 * * *", "tz": "Asia/Tokyo", "utc": True}, "09-02T00:00:00", "09-01T15:00:00"),
    ],
    ids=str,
)
def test_a_stored_series_is_read_as_its_writer_does(repeat: dict[str, Any], in_5: str, in_6: str) -> None:
    assert (following(repeat, "5"), following(repeat, "6")) == (in_5, in_6)


def test_what_is_drawn_depends_on_series_and_slot_or_on_the_seed_alone() -> None:
    drawn = {following({"pattern": "H H * * *"}, "6", f"series {number}") for number in range(20)}
    assert len(drawn) > 15
    assert following({"pattern": "H H * * *"}, "6", "s") == following({"pattern": "H H * * *"}, "5", "s")
    seeded = {following({"pattern": "H H * * *", "hashSeed": "k"}, "6", f"series {number}") for number in range(20)}
    assert len(seeded) == 1


def test_draws_are_spread_and_follow_from_the_seed() -> None:
    draw, again = cron_pattern.seeded("a"), cron_pattern.seeded("a")
    numbers = [draw() for _ in range(1000)]
    assert numbers == [again() for _ in range(1000)]
    assert all(0 <= number < 1 for number in numbers)
    assert {int(number * 10) for number in numbers} == set(range(10))


@pytest.mark.parametrize(
    ("repeat", "field"),
    [
        ({"pattern": "RRULE:FREQ=DAILY"}, "repeat.pattern"),
        ({"pattern": "0 0 30 2 *"}, "repeat.pattern"),
        ({"pattern": "0 0 31 2,4 *"}, "repeat.pattern"),
        ({"pattern": 5}, "repeat"),
        ({"pattern": "* * * * *", "tz": "Mars/Base"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "right/UTC"}, "repeat.tz"),
        ({"pattern": "* * * * *", "tz": "Factory"}, "repeat.tz"),
        ({"pattern": "* * * * *", "nthDayOfWeek": 2}, "repeat.nthDayOfWeek"),
        ({"every": -5}, "repeat.every"),
    ],
    ids=str,
)
def test_what_cannot_be_carried_on_is_told_by_name(repeat: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        following(repeat, "5")
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("@weekdays", "write 0 0 * * 1-5"),
        ("1,1 * * * *", "BullMQ 6 refuses"),
        ("H * * * *", "BullMQ 5 refuses"),
        ("0 0 15 * MON#1", "as different days"),
        ("0 0 31 2,4 *", "a date that no year has"),
    ],
)
def test_callers_hear_which_version_reads_a_pattern_otherwise(pattern: str, problem: str) -> None:
    with pytest.raises(errors.InvalidOptionError, match=re.escape(problem)):
        cron_pattern.parse(pattern)
