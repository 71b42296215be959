"""What a CronJobSchedule needs in Redis now, given the job scheduler that is stored there. Pure.

The operator and `toril dev` ask the same questions here: whether slots are to come, where the first one is, and whether
`runOnCreate` needs a job of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import SchedulerRecord
from toril.specs.cron_job_schedule import CronJobScheduleSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleNeeds:
    """What is to be stored and added."""

    is_over: bool
    """No slot is to come (`endDate`, `limit`), so that no job scheduler is stored."""
    first_ms: int | None
    """The first slot of the job scheduler, Unix milliseconds. None: BullMQ chooses, and keeps the next slot of an
    unchanged interval."""
    adds_run: bool
    """Whether the job of `runOnCreate` is added by itself. A first slot that is now is this job."""


def plan_new(
    spec: CronJobScheduleSpec,
    schedule: Schedule,
    record: SchedulerRecord | None,
    *,
    now_ms: int,
    made: int,
    runs_now: bool,
) -> ScheduleNeeds:
    """Plan the storing of a job scheduler that is absent, or that differs from the spec.

    Args:
        record: the stored job scheduler; None = absent.
        now_ms: Redis's clock, Unix milliseconds.
        made: how many slots' jobs were made before.
        runs_now: whether `runOnCreate` asks for a job now.
    """
    if schedule.is_over(now_ms, made):
        return ScheduleNeeds(is_over=True, first_ms=None, adds_run=runs_now)
    first_ms = None
    if record is None or not has_rhythm(record, spec):
        first_ms = first_slot_ms(spec, now_ms, runs_now=runs_now)
    return ScheduleNeeds(is_over=False, first_ms=first_ms, adds_run=runs_now and first_ms != now_ms)


def has_rhythm(record: SchedulerRecord, spec: CronJobScheduleSpec) -> bool:
    """Whether a stored interval has its slots where the spec has them, so that the next slot stays."""
    if record.repeat.get("every") != spec.every_ms:
        return False
    return spec.offset_ms is None or record.slot_ms % (spec.every_ms or 1) == spec.offset_ms


def first_slot_ms(spec: CronJobScheduleSpec, now_ms: int, *, runs_now: bool) -> int | None:
    """The first slot of an interval, Unix milliseconds; None with a cron expression, which determines its own.

    At multiples of the interval, plus the offset. Without an offset: at `startDate`, or now if `runs_now`.
    """
    if spec.every_ms is None:
        return None
    if spec.offset_ms is None:
        if spec.start_ms is not None and spec.start_ms > now_ms:
            return spec.start_ms
        if runs_now:
            return now_ms
    after_ms = max(now_ms, (spec.start_ms or 0) - 1) - (spec.offset_ms or 0)
    return (after_ms // spec.every_ms + 1) * spec.every_ms + (spec.offset_ms or 0)
