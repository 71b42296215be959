"""Cron patterns mean to us what they mean to BullMQ's own parsers, clock changes included."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from support.node_peer import NodePeer
from toril import errors
from toril.jobs.schedule import Schedule

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "America/Santiago")
MOMENTS = (
    "2026-01-01T01:02:03", "2027-12-31T23:59:59",
    # Shortly before, and within, the clock changes of these zones.
    "2026-03-28T23:10:00", "2026-03-29T00:59:00", "2026-10-24T22:00:00", "2026-10-25T00:15:00", "2026-10-25T01:15:00",
    "2026-03-08T05:30:00", "2026-03-08T07:15:00", "2026-11-01T04:40:00", "2026-11-01T05:40:00", "2026-11-01T06:40:00",
    "2026-04-04T14:20:00", "2026-10-03T15:00:00", "2026-04-05T02:30:00", "2026-09-06T03:30:00",
)  # fmt: skip
PATTERNS = (
    "* * * * *", "*/15 * * * *", "0 * * * *", "0 0 * * *", "0 2 * * *", "0 9 * * 1", "0 0 1 * *", "0 */6 * * *",
    "*/5 * * * *", "30 2 * * *", "30 1 * * *", "15,45 2 * * *", "0,30 1-3 * * *", "*/20 0-4 * * *", "30 */2 * * *",
    "0 3 * * *", "* * * * * *", "30 * * * * *", "15,45 30 1,2 * * *", "*/10 59 1 * * *", "0 0 12 * * 1-5",
    "0 0 L * *", "0 0 1,L * *", "0 0 * * 5L", "0 0 * * 1L,3L", "0 0 * * MON#1", "0 0 * * 0#5", "0 12 * * 7",
    "0 0 * * 5-7", "0 0 * JAN-MAR MON-FRI", "5/15 * * * *", "1-5/2 * * * *", "0 0 1,15 * MON", "0 0 ? * tue",
    "0 0 1 * ?", "0 0 31 * *", "0 0 */2 * MON", "@daily", "@weekly", "@hourly", "@monthly",
    "* *", "*/70 * * * *",
)  # fmt: skip
REFUSED = (
    "61 * * * *", "a * * * *", "*/0 * * * *", "0 22-2 * * *", "0 0 15W * *", "0 0 LW * *", "0 0 0 1 1 * 2027",
    "0 0 30 2 *", "0 0 31 2,4 *", "0 0 1 13 *", "0 0 32 * *", "0 0 L-3 * *", "0 0 * * L", "0 0 * * 1#6",
    "0 0 * * MON#1,FRI", "* * * * 1,", "@midnight", "@reboot", "1e1 * * * *", "*/5/2 * * * *", "5- * * * *",
    "0 0 0 * *",
)  # fmt: skip


def milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


def times(pattern: str, tz: str, after_ms: int, count: int) -> list[int]:
    schedule = Schedule.from_bullmq({"pattern": pattern, "tz": tz})
    found: list[int] = []
    while len(found) < count:
        slot = schedule.next_slot_ms(after_ms, after_ms)
        assert slot is not None
        found.append(slot)
        after_ms = slot
    return found


@pytest.fixture
async def theirs(nodes: Callable[[str], NodePeer], version: str) -> Callable[[list[Any]], Any]:
    async def ask(cases: list[Any]) -> Any:
        return await nodes(version).request("cron", cases=cases)

    return ask


@pytest.mark.wire(85)
@pytest.mark.requirement("I-16")
async def test_the_same_moments(theirs: Any) -> None:
    cases: list[Any] = [
        [pattern, zone, milliseconds(moment), 3] for pattern in PATTERNS for zone in ZONES for moment in MOMENTS
    ]
    cases = random.Random(7).sample(cases, 160)
    different = [
        (case, expected) for case, expected in zip(cases, await theirs(cases), strict=True) if times(*case) != expected
    ]
    assert different == []


@pytest.mark.wire(85)
async def test_the_same_patterns_are_refused(theirs: Any) -> None:
    for pattern, reply in zip(REFUSED, await theirs([[each, "UTC", 0, 1] for each in REFUSED]), strict=True):
        assert isinstance(reply, str), pattern
        with pytest.raises(errors.InvalidOptionError, match=r"^repeat\.pattern: "):
            Schedule.from_bullmq({"pattern": pattern})


async def test_where_the_clock_skips_midnight_the_job_still_comes(theirs: Any) -> None:
    """A difference on purpose: BullMQ leaves out the day whose first hour is skipped."""
    case: list[Any] = ["10 0 * * *", "Africa/Cairo", milliseconds("2026-04-23T12:00:00"), 1]
    assert times("10 0 * * *", "Africa/Cairo", case[2], 1) == [milliseconds("2026-04-23T22:10:00")]
    assert (await theirs([case]))[0] == [milliseconds("2026-04-24T21:10:00")]
