"""Cron patterns mean to us what they mean to BullMQ's own parsers: stored ones to the version that stored them, those
of callers to both."""

from __future__ import annotations

import random
import zoneinfo
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support import cron_corpus
from support.cron_corpus import milliseconds
from support.node_peer import NodePeer
from toril import errors
from toril.jobs.cron_dialect import Dialect
from toril.jobs.schedule import Schedule

Case = list[Any]
"""Pattern, zone, moment (Unix ms), how many times, seed of the draws."""
Theirs = Callable[[list[Case]], Awaitable[list[Any]]]
SEED = "some-series"
BATCH = 40
NOON = milliseconds("2025-06-15T12:00:00")


@pytest.fixture
def theirs(nodes: Callable[[str], NodePeer], version: str) -> Theirs:
    async def ask(cases: list[Case]) -> list[Any]:
        # In parts, since a slow machine takes long for all.
        answers: list[Any] = []
        for at in range(0, len(cases), BATCH):
            answers += await nodes(version).request("cron", cases=cases[at : at + BATCH])
        return answers

    return ask


def ours(case: Case, writer: str = "") -> list[int] | str:
    """The times, or why there are none. Args: writer: of a stored series; empty = a caller's pattern."""
    pattern, tz, after_ms, count, *_ = case
    repeat = {"pattern": pattern, "tz": tz}
    found: list[int] = []
    try:
        schedule = Schedule.from_stored(repeat, Dialect(writer), SEED) if writer else Schedule.from_bullmq(repeat)
        while len(found) < count:
            slot = schedule.next_slot_ms(after_ms, after_ms)
            if slot is None:
                return "no time comes"
            found.append(slot)
            after_ms = slot
    except errors.InvalidOptionError as problem:
        return str(problem)
    return found


def different(cases: list[Case], answers: list[Any], writer: str) -> list[Any]:
    """Cases that this version of BullMQ takes, and that we read otherwise."""
    return [
        (case, answer, mine)
        for case, answer in zip(cases, answers, strict=True)
        if isinstance(answer, list) and (mine := ours(case, writer)) != answer
    ]


@pytest.mark.wire(85)
@pytest.mark.requirement("I-16")
async def test_stored_series_go_on_at_the_moments_of_their_library(theirs: Theirs, version: str) -> None:
    patterns = (*cron_corpus.READ_ALIKE, *cron_corpus.ONE_ONLY, *cron_corpus.READ_DIFFERENTLY)
    every: list[Case] = [
        [pattern, zone, milliseconds(moment), 3, SEED]
        for pattern in patterns
        for zone in cron_corpus.ZONES
        for moment in cron_corpus.MOMENTS
    ]
    # Each pattern once at least, and many of all combinations.
    cases = [every[at * len(every) // len(patterns)] for at in range(len(patterns))]
    cases += random.Random(7).sample(every, 500)
    answers = await theirs(cases)
    assert sum(isinstance(answer, list) for answer in answers) > 300
    assert different(cases, answers, version) == []


@pytest.mark.wire(85)
async def test_callers_patterns_mean_the_same_moments(theirs: Theirs) -> None:
    cases: list[Case] = [
        [pattern, zone, milliseconds(moment), 3]
        for pattern in cron_corpus.READ_ALIKE
        for zone in cron_corpus.ZONES
        for moment in cron_corpus.MOMENTS
    ]
    cases = random.Random(8).sample(cases, 200)
    assert [
        (case, answer) for case, answer in zip(cases, await theirs(cases), strict=True) if ours(case) != answer
    ] == []


@pytest.mark.parametrize("seed", range(3))
async def test_odd_patterns_are_taken_and_refused_as_their_library_does(
    theirs: Theirs, version: str, seed: int
) -> None:
    cases: list[Case] = [[text, "UTC", NOON, 2, SEED] for text in cron_corpus.random_patterns(seed, 700)]
    answers = await theirs(cases)
    taken = [isinstance(answer, list) for answer in answers]
    assert 100 < sum(taken) < 600
    assert different(cases, answers, version) == []
    # And no caller may use what this version refuses.
    allowed = [
        case for case, is_taken in zip(cases, taken, strict=True) if not is_taken and isinstance(ours(case), list)
    ]
    assert allowed == []


async def test_callers_may_not_use_what_the_versions_read_apart(nodes: Callable[[str], NodePeer]) -> None:
    apart = (*cron_corpus.ONE_ONLY, *cron_corpus.READ_DIFFERENTLY)
    cases: list[Case] = [[pattern, "UTC", NOON, 20, SEED] for pattern in apart]
    older, newer = [await nodes(version).request("cron", cases=cases) for version in ("5", "6")]
    for case, old, new in zip(cases, older, newer, strict=True):
        assert old != new, case
        assert isinstance(ours(case), str), case


@pytest.mark.wire(85)
async def test_the_same_patterns_are_refused(theirs: Theirs, version: str) -> None:
    cases: list[Case] = [[pattern, "UTC", NOON, 1, SEED] for pattern in cron_corpus.REFUSED]
    for case, answer in zip(cases, await theirs(cases), strict=True):
        assert isinstance(answer, str), case
        assert isinstance(ours(case, version), str), case
        with pytest.raises(errors.InvalidOptionError, match=r"^repeat\.pattern: "):
            Schedule.from_bullmq({"pattern": case[0]})


async def test_the_same_zones_are_known(theirs: Theirs, version: str) -> None:
    """In each case of letters. Moments of before the releases of both databases, so that both know the same rules."""
    names = sorted(zoneinfo.available_timezones())
    offsets = ("UTC+1", "utc-1", "UTC+14", "UTC-0:30", "Utc+01:30", "UTC+0200", "UTC+2.5", "GMT+2", "UTC±2", "UTC+100")
    others = ("PST", "IST", "US/Pacific-New", "CEST", "Factory", "localtime", "right/UTC", "posix/UTC", "Mars/Base")
    cases: list[Case] = [
        ["0 12 * * *", name, milliseconds(moment), 1]
        for name in (*names, *(name.swapcase() for name in names), *offsets, *others)
        for moment in ("2025-01-15T00:00:00", "2025-07-15T00:00:00")
    ]
    answers = await theirs(cases)
    assert different(cases, answers, version) == []
    refused = [case for case, answer in zip(cases, answers, strict=True) if isinstance(answer, str)]
    assert refused
    assert [case for case in refused if isinstance(ours(case), list) or isinstance(ours(case, version), list)] == []
