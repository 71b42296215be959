"""The demo's plan, and what counts as a difference from it."""

from __future__ import annotations

from collections import Counter

import pytest

from toril.cli.dev import demo_plan
from toril.cli.dev.demo_plan import Outcome, PlannedJob
from toril.jobs.job import JobRecord, JobState


def test_a_plan_has_every_special_case_in_its_share() -> None:
    plan = demo_plan.build_plan(300)
    assert Counter(job.queue for job in plan) == {"page-save": 200, "image-upload": 100}
    assert Counter(job.attempts for job in plan) == {1: 282, 2: 12, 3: 6}
    assert sum(job.end is JobState.FAILED for job in plan) == 3
    assert sum(job.is_delayed for job in plan) == 24
    assert sum(job.is_prioritized for job in plan) == 36
    assert plan == demo_plan.build_plan(300)


def test_a_small_plan_has_them_too() -> None:
    plan = demo_plan.build_plan(30)
    assert {job.attempts for job in plan} == {1, 2, 3}
    assert {job.end for job in plan} == {JobState.COMPLETED, JobState.FAILED}
    assert any(job.is_delayed for job in plan)
    assert any(job.is_prioritized for job in plan)


def outcome(state: JobState, attempts_made: int, rows: int, reason: str = "") -> Outcome:
    job = JobRecord("7", {b"atm": str(attempts_made).encode(), b"failedReason": reason.encode()})
    return Outcome(job, state, ["row"] * rows)


PLANNED = PlannedJob(queue="q", name="n", data={}, attempts=2)


@pytest.mark.parametrize(
    ("found", "ends", "expected"),
    [
        (outcome(JobState.COMPLETED, 2, 2), 1, []),
        (outcome(JobState.COMPLETED, 2, 2), 2, ["q job 7: ended 2 times"]),
        (outcome(JobState.FAILED, 2, 2, "no luck"), 1, ["q job 7: is failed, planned was completed (no luck)"]),
        (outcome(JobState.COMPLETED, 2, 3), 1, ["q job 7: its function ran 3 times, planned was 2"]),
        (outcome(JobState.COMPLETED, 1, 2), 1, ["q job 7: counted attempts are 1, planned was 2"]),
        (Outcome(None, JobState.UNKNOWN, []), 1, ["q job 7: is gone"]),
    ],
)
def test_differences(found: Outcome, ends: int, expected: list[str]) -> None:
    assert list(demo_plan.differences(PLANNED, "7", found, ends)) == expected


def test_a_summary_sets_what_came_beside_what_was_planned() -> None:
    job = JobRecord("7", {b"atm": b"2", b"timestamp": b"1000", b"processedOn": b"1600"})
    summary = demo_plan.Summary(
        seconds=3.0,
        queues=[
            demo_plan.QueueSummary(
                queue="q",
                planned={"7": PLANNED},
                outcomes={"7": Outcome(job, JobState.COMPLETED, ["a", "b"])},
                scaling=[0, 1, 0],
            )
        ],
    )
    assert list(summary.lines()) == [
        "",
        "q",
        "  jobs           1, of these 0 delayed and 0 prioritized",
        "  completed      1 of 1 planned",
        "  failed         0 of 0 planned (invalid data, never retried)",
        "  retried        1 after one failure, 0 after two",
        "  function runs  2 for 2 planned attempts",
        "  workers        0 → 1 → 0",
        "  first start    0.6 s after adding, with no worker there before",
    ]
