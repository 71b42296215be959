from __future__ import annotations

from typing import Any

import pytest

from toril import errors
from toril.specs.cron_job_schedule import CronJobScheduleSpec, RunOnCreate, parse_cron_job_schedule


def manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "toril.dev/v1alpha1",
        "kind": "CronJobSchedule",
        "metadata": {"name": "image-cleanup", "namespace": "media"},
        "spec": {"queueRef": {"name": "images"}, **spec},
    }


def parse(**spec: Any) -> CronJobScheduleSpec:
    return parse_cron_job_schedule(manifest(**spec))


def test_a_cron_schedule_with_its_defaults() -> None:
    assert parse(schedule="0 */6 * * *") == CronJobScheduleSpec(
        namespace="media",
        name="image-cleanup",
        queue="images",
        scheduler_id="media.image-cleanup",
        pattern="0 */6 * * *",
        time_zone="Etc/UTC",
        job_name="image-cleanup",
    )


def test_everything_given() -> None:
    spec = parse(
        every=5000,
        offset=0,
        schedulerId="mine",
        startDate="2030-01-01T00:00:00Z",
        endDate="2030-01-01T02:00:00.5+01:00",
        limit=3,
        suspend=True,
        jobTemplate={"name": "sweep", "data": {"batchSize": 50}, "opts": {"attempts": 5, "priority": None}},
    )
    assert (spec.pattern, spec.every_ms, spec.offset_ms, spec.time_zone) == (None, 5000, 0, None)
    assert (spec.start_ms, spec.end_ms) == (1_893_456_000_000, 1_893_459_600_500)
    assert (spec.scheduler_id, spec.limit, spec.is_suspended) == ("mine", 3, True)
    assert (spec.job_name, spec.job_data, spec.job_options) == ("sweep", {"batchSize": 50}, {"attempts": 5})


def test_run_on_create_is_never_unless_asked_for() -> None:
    assert parse(every=1000).run_on_create is RunOnCreate.NEVER
    assert parse(every=1000, runOnCreate="OncePerGeneration").run_on_create is RunOnCreate.ONCE_PER_GENERATION


def test_the_jobs_options_are_the_schedules_own_over_the_queues() -> None:
    spec = parse(every=1000, jobTemplate={"opts": {"attempts": 5}})
    defaults = {"attempts": 3, "backoff": {"type": "fixed", "delay": 10}, "delay": 60_000}
    assert spec.options_on(defaults) == {"attempts": 5, "backoff": {"type": "fixed", "delay": 10}}


@pytest.mark.parametrize("schedule", ["*/5 * * * *", "30 0 2 * * MON-FRI", "0 0 L * ?", "0 9 * * MON#1", "@daily"])
def test_forms_of_a_schedule(schedule: str) -> None:
    assert parse(schedule=schedule).pattern == schedule


@pytest.mark.requirement("T77")
@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "spec: exactly one of schedule and every must be given"),
        ({"schedule": "0 * * * *", "every": 1000}, "spec: exactly one of schedule and every must be given"),
        ({"schedule": "0 * * *"}, "spec.schedule: must have five fields"),
        ({"schedule": "0 0 0 * * * 2030"}, "spec.schedule: must have five fields"),
        ({"schedule": "0 * * * ;"}, "spec.schedule: must have five fields"),
        ({"schedule": "0 * * * *", "offset": 0}, "spec.offset: goes with every"),
        ({"every": 999}, "spec.every: must be greater than or equal to 1000"),
        ({"every": 5000, "offset": 5000}, "spec.offset: must be below every"),
        ({"every": 5000, "startDate": "tomorrow"}, "spec.startDate: must be a time with its offset"),
        ({"every": 5000, "startDate": "2030-01-01T00:00:00"}, "spec.startDate: must be a time with its offset"),
        (
            {"every": 5000, "startDate": "2030-01-01T00:00:00Z", "endDate": "2030-01-01T01:00:00+01:00"},
            "spec.endDate: must be after startDate",
        ),
        (
            {"every": 5000, "startDate": "2030-01-01T00:00:00Z", "runOnCreate": "OncePerGeneration"},
            "spec.runOnCreate: must be Never with a startDate",
        ),
        ({"every": 5000, "limit": 0}, "spec.limit: must be greater than or equal to 1"),
        ({"every": 5000, "schedulerId": "a:b"}, "spec.schedulerId: must be at most 200 printable characters"),
        ({"every": 5000, "queueRef": {}}, "spec.queueRef.name: is required"),
        ({"every": 5000, "runOnCreate": "Always"}, "spec.runOnCreate: must be one of: Never, OncePerGeneration"),
        ({"every": 5000, "jobTemplate": {"data": []}}, "spec.jobTemplate.data: must be of type object"),
        ({"every": 5000, "jobTemplate": {"opts": {"delay": 1}}}, "spec.jobTemplate.opts.delay: is given by the slot"),
        ({"every": 5000, "jobTemplate": {"opts": {"priority": -1}}}, "spec.jobTemplate.opts.priority: must be"),
    ],
)
def test_what_is_refused(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(errors.InvalidSpecError) as refused:
        parse(**spec)
    assert str(refused.value).startswith(problem)


def test_another_kind_is_refused() -> None:
    with pytest.raises(errors.InvalidSpecError, match="kind CronJobSchedule"):
        parse_cron_job_schedule({**manifest(every=1000), "kind": "JobQueue"})
