"""What is to be done about a CronJobSchedule, given what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toril import errors
from toril.jobs.job import NewJob
from toril.jobs.scheduler import SchedulerRecord
from toril.specs import cron_job_schedule as specs
from toril.specs import schedule_plan
from toril.specs.cron_job_schedule import CronJobScheduleSpec, RunOnCreate
from toril.specs.jobqueue import JobQueueSpec
from toril_operator import object_cache
from toril_operator.conditions import Condition, Reason, Status, Type
from toril_operator.cronjobschedule import desired
from toril_operator.cronjobschedule.desired import Scheduler

Json = Mapping[str, Any]

ABANDON_MS = 60_000
"""A deleted object waits so long for its record to be removed; then it goes without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One CronJobSchedule as it is now."""

    key: object_cache.Key
    uid: str
    generation: int
    has_finalizer: bool = True
    deleted_for_ms: int | None = None
    """For how long it has been on its way out; None = it is not."""
    spec: CronJobScheduleSpec | None
    """None when a field is wrong."""
    spec_problem: str = ""
    """The wrong field's path and what is wrong with it."""
    duplicate_of: str | None = None
    """Name of the older CronJobSchedule with the same scheduler."""
    is_queue_found: bool = True
    queue: JobQueueSpec | None = None
    """The JobQueue; None when it is not there or makes no sense."""
    unreadable: str | None = None
    """Why the queue's Redis cannot be asked; None = it was."""
    record: SchedulerRecord | None = None
    """The job scheduler in Redis; None = there is none, or it cannot be asked for."""
    now_ms: int = 0
    """Redis's clock at this look, Unix milliseconds; 0 when it was not asked."""
    status: Json = field(default_factory=dict)
    """What the object's status says."""

    @property
    def defaults(self) -> Json:
        """The JobQueue's `defaultJobOptions`."""
        return {} if self.queue is None else self.queue.default_job_options

    @property
    def ran_generation(self) -> int | None:
        """The generation whose run by `runOnCreate` has been made."""
        generation: int | None = self.status.get("runOnCreateGeneration")
        return generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Upsert:
    """Make the record, or make it anew."""

    scheduler: Scheduler
    first_ms: int | None
    """Its first slot; None = BullMQ's choice, which keeps an unchanged interval's next one."""
    made: int
    """How many slots' jobs were made before, by a record that is gone. One that is there knows better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order; nothing at all is the usual case."""

    valid: Condition
    """What `ScheduleValid` says."""
    blocked: Condition | None = None
    """Why the schedule is not carried out; this is then what `Ready` says."""
    protect: bool = False
    """Give the object its finalizer, before there is anything for it to protect."""
    remove: bool = False
    """Remove the record."""
    upsert: Upsert | None = None
    advance: bool = False
    """The slot has come: see to it that the next one's job is made."""
    run: NewJob | None = None
    """The job of `runOnCreate`."""
    ran_generation: int | None = None
    """The generation whose run by `runOnCreate` has been made, when this is done."""
    release: bool = False
    """Take the finalizer away, whatever becomes of the removal."""


def make_plan(observed: Observed) -> Plan:
    """What one turn has to do. The first case that holds decides:

    1. The object is being deleted: remove the job scheduler. The finalizer goes when that is done, or after
       `ABANDON_MS`.
    2. An obstacle (no JobQueue, Redis unknown, a duplicate) or an invalid schedule: nothing, with the obstacle as the
       reason. An invalid schedule also removes the job scheduler, which would go on with the former one.
    3. `spec.suspend`: remove the job scheduler.
    4. Otherwise: store the job scheduler where it differs, make the next slot's job where it is due, run on creation.
    """
    valid, scheduler, problem = _validity(observed)
    if observed.deleted_for_ms is not None:
        return _deletion(observed, observed.deleted_for_ms, valid)
    blocked = _obstacle(observed) or problem
    if blocked is not None:
        remove = blocked.reason is Reason.INVALID_SCHEDULE and observed.record is not None
        return Plan(valid=valid, blocked=blocked, remove=remove, ran_generation=observed.ran_generation)
    assert observed.spec is not None
    assert scheduler is not None
    if observed.spec.is_suspended:
        return Plan(valid=valid, remove=observed.record is not None, ran_generation=observed.ran_generation)
    return _scheduled(observed, observed.spec, scheduler, valid)


def made_by(observed: Observed) -> int:
    """How many slots' jobs have been made, without the one that is armed."""
    if observed.record is None:
        return int(observed.status.get("iterationCount") or 0)
    return (observed.record.iteration_count or 1) - int(observed.record.slot_ms > observed.now_ms)


def _validity(observed: Observed) -> tuple[Condition, Scheduler | None, Condition | None]:
    """`ScheduleValid`, the scheduler that is asked for, and what `Ready` says when there can be none."""
    if observed.spec is None:
        return Condition(Type.SCHEDULE_VALID, Status.UNKNOWN, Reason.PENDING, "see Ready"), None, None
    is_valid = Condition(Type.SCHEDULE_VALID, Status.TRUE, Reason.VALID)
    try:
        return is_valid, desired.build_scheduler(observed.spec, observed.defaults), None
    except errors.InvalidSpecError as problem:
        text = str(problem)
        reason = {"spec.schedule": Reason.BAD_CRON, "spec.timeZone": Reason.UNKNOWN_TIME_ZONE}.get(problem.field)
    if reason is None:
        return is_valid, None, _not_ready(Reason.INVALID_SPEC, text)
    is_wrong = Condition(Type.SCHEDULE_VALID, Status.FALSE, reason, text)
    return is_wrong, None, _not_ready(Reason.INVALID_SCHEDULE, text)


def _obstacle(observed: Observed) -> Condition | None:
    """Why nothing can be done in Redis, as the object's `Ready`."""
    if observed.spec is None:
        return _not_ready(Reason.INVALID_SPEC, observed.spec_problem)
    if observed.duplicate_of is not None:
        message = f"CronJobSchedule {observed.duplicate_of} is older and has the same scheduler; delete one of the two"
        return _not_ready(Reason.DUPLICATE_TARGET, message)
    if not observed.is_queue_found:
        return _not_ready(Reason.QUEUE_NOT_FOUND, f"there is no JobQueue {observed.spec.queue} in this namespace")
    if observed.unreadable is not None:
        return _not_ready(Reason.REDIS_UNREACHABLE, observed.unreadable)
    return None


def _not_ready(reason: Reason, message: str) -> Condition:
    return Condition(Type.READY, Status.FALSE, reason, message)


def _deletion(observed: Observed, deleted_for_ms: int, valid: Condition) -> Plan:
    """Remove the record and let the object go: when that is done, when it can never be, or after a while."""
    blocked = _not_ready(Reason.TERMINATING, "the CronJobSchedule is being deleted")
    if not observed.has_finalizer:
        return Plan(valid=valid, blocked=blocked)
    # A duplicate has nothing of its own in Redis.
    is_owner = observed.spec is not None and observed.duplicate_of is None
    is_hopeless = not observed.is_queue_found or deleted_for_ms >= ABANDON_MS
    return Plan(valid=valid, blocked=blocked, remove=is_owner, release=not is_owner or is_hopeless)


def _scheduled(observed: Observed, spec: CronJobScheduleSpec, scheduler: Scheduler, valid: Condition) -> Plan:
    record, generation = observed.record, observed.generation
    is_run_due = spec.run_on_create is RunOnCreate.ONCE_PER_GENERATION and observed.ran_generation != generation
    upsert = None
    if record is not None and desired.is_as_desired(record, scheduler, spec):
        # An interval begins with the run. The process that made the record may have ended before it wrote the status.
        began_with_run = generation == 1 and spec.every_ms is not None and spec.offset_ms is None
        adds_run = is_run_due and not began_with_run
    else:
        made = made_by(observed)
        needs = schedule_plan.plan_new(
            spec, scheduler.schedule, record, now_ms=observed.now_ms, made=made, runs_now=is_run_due
        )
        adds_run = needs.adds_run
        if not needs.is_over:
            upsert = Upsert(scheduler=scheduler, first_ms=needs.first_ms, made=made)
    run_id = spec.run_id(observed.uid, generation)
    return Plan(
        valid=valid,
        protect=not observed.has_finalizer,
        upsert=upsert,
        advance=upsert is None and record is not None and record.slot_ms <= observed.now_ms,
        run=specs.build_run(spec, observed.defaults, run_id) if adds_run else None,
        ran_generation=generation if is_run_due else observed.ran_generation,
    )
