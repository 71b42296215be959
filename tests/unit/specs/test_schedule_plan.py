"""What a schedule needs in Redis, by its spec and by the job scheduler that is stored."""

from __future__ import annotations

from typing import Any

import pytest

from toril.jobs.scheduler import SchedulerRecord
from toril.specs import cron_job_schedule as specs
from toril.specs.cron_job_schedule import CronJobScheduleSpec
from toril.specs.schedule_plan import ScheduleNeeds, plan_new

NOW_MS = 1_893_456_030_000
"""2030-01-01, 00:00:30."""
HOUR_MS = 3_600_000
NEXT_HOUR_MS = NOW_MS - 30_000 + HOUR_MS


def spec_of(**fields: Any) -> CronJobScheduleSpec:
    return specs.parse_cron_job_schedule(
        {
            "apiVersion": "toril.dev/v1alpha1",
            "kind": "CronJobSchedule",
            "metadata": {"name": "mine", "namespace": "team"},
            "spec": {"queueRef": {"name": "email"}, **fields},
        }
    )


def needs_of(
    spec: CronJobScheduleSpec, record: SchedulerRecord | None = None, *, made: int = 0, runs_now: bool = False
) -> ScheduleNeeds:
    schedule = specs.build_schedule(spec)
    return plan_new(spec, schedule, record, now_ms=NOW_MS, made=made, runs_now=runs_now)


def stored(every_ms: int, slot_ms: int) -> SchedulerRecord:
    return SchedulerRecord("team.mine", slot_ms, {"name": "mine", "every": str(every_ms)}, None)


@pytest.mark.parametrize(
    ("fields", "runs_now", "first_ms", "adds_run"),
    [
        ({"schedule": "0 2 * * *"}, False, None, False),
        ({"schedule": "0 2 * * *"}, True, None, True),
        ({"every": HOUR_MS}, False, NEXT_HOUR_MS, False),
        ({"every": HOUR_MS}, True, NOW_MS, False),
        ({"every": HOUR_MS, "offset": 0}, True, NEXT_HOUR_MS, True),
        ({"every": HOUR_MS, "startDate": "2030-01-01T12:34:56Z"}, True, NOW_MS - 30_000 + 45_296_000, True),
    ],
)
def test_a_new_schedule(fields: dict[str, Any], runs_now: bool, first_ms: int | None, adds_run: bool) -> None:
    needs = needs_of(spec_of(**fields), runs_now=runs_now)
    assert needs == ScheduleNeeds(is_over=False, first_ms=first_ms, adds_run=adds_run)


def test_a_stored_interval_keeps_its_slots_and_another_interval_does_not() -> None:
    spec = spec_of(every=HOUR_MS)
    assert needs_of(spec, stored(HOUR_MS, NOW_MS + 7)).first_ms is None
    assert needs_of(spec, stored(HOUR_MS // 2, NOW_MS + 7)).first_ms == NEXT_HOUR_MS
    # The run of `runOnCreate` is no slot of a series that keeps its slots.
    assert needs_of(spec, stored(HOUR_MS, NOW_MS + 7), runs_now=True).adds_run


@pytest.mark.parametrize("runs_now", [False, True])
def test_a_series_that_is_over_has_no_slot_but_may_run_on_creation(runs_now: bool) -> None:
    for needs in (
        needs_of(spec_of(every=HOUR_MS, endDate="2029-12-31T00:00:00Z"), runs_now=runs_now),
        needs_of(spec_of(every=HOUR_MS, limit=2), made=2, runs_now=runs_now),
    ):
        assert needs == ScheduleNeeds(is_over=True, first_ms=None, adds_run=runs_now)
