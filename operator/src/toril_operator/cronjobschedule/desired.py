"""The job scheduler that a CronJobSchedule should have in Redis. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from toril import errors
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate, SchedulerRecord
from toril.specs import cron_job_schedule as specs
from toril.specs import schedule_plan
from toril.specs.cron_job_schedule import CronJobScheduleSpec


@dataclass(frozen=True, slots=True)
class Scheduler:
    """What is asked for. Which slot is next, is Redis's to know."""

    id: str
    schedule: Schedule
    template: JobTemplate


def build_scheduler(spec: CronJobScheduleSpec, defaults: Mapping[str, Any]) -> Scheduler:
    """Args: defaults: the JobQueue's `defaultJobOptions`.

    Raises:
        InvalidSpecError: the cron expression, the time zone or the job's data cannot be used; `field` says which.
    """
    return Scheduler(spec.scheduler_id, specs.build_schedule(spec), specs.build_template(spec, defaults))


def is_as_desired(record: SchedulerRecord, scheduler: Scheduler, spec: CronJobScheduleSpec) -> bool:
    """Whether a stored scheduler is what is asked for. An offset that nobody asked for is where the first slot was."""
    try:
        stored = record.schedule
        data = json.loads(record.data_json or "{}")
        opts = json.loads(record.fields.get("opts") or "{}")
    except (errors.InvalidInputError, ValueError, RecursionError):
        return False
    template = scheduler.template
    return (
        replace(stored, offset_ms=0) == replace(scheduler.schedule, offset_ms=0)
        and (spec.every_ms is None or schedule_plan.has_rhythm(record, spec))
        and record.name == template.name
        and record.iteration_count is not None
        and data == json.loads(template.data_json)
        and opts == dict(template.opts or {})
    )
