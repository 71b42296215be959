"""What a CronJobSchedule's status should say. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toril import errors
from toril.jobs import scheduler as schedulers
from toril.jobs.scheduler import SchedulerRecord
from toril_operator import conditions
from toril_operator.conditions import Condition, Reason, Status, Type
from toril_operator.cronjobschedule import plan as planning

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a plan."""

    record: SchedulerRecord | None = None
    """As it is after the plan."""
    problem: str = ""
    """Why it could not be carried out in full."""
    has_run: bool = True
    """Whether the run of `runOnCreate`, if there was to be one, has been made all the same."""
    is_released: bool = False
    """The finalizer is gone, and the object with it."""


def build_status(observed: planning.Observed, plan: planning.Plan, outcome: Outcome, now: str) -> dict[str, Any]:
    """The whole status.

    Args:
        now: RFC 3339 time, for what changed at this look.
    """
    previous = observed.status
    ready = plan.blocked or _ready(observed, outcome)
    present = (ready, plan.valid, _queue_found(observed), _suspended(observed))
    status: dict[str, Any] = {
        "observedGeneration": observed.generation,
        "conditions": conditions.build_conditions(
            present, previous.get("conditions") or (), generation=observed.generation, now=now
        ),
    }
    spec = observed.spec
    if spec is not None:
        status["schedulerId"] = spec.scheduler_id
        if spec.time_zone is not None:
            status["timeZone"] = spec.time_zone
    if observed.queue is not None:
        status["queueName"] = observed.queue.queue_name
    ran_generation = plan.ran_generation if outcome.has_run else observed.ran_generation
    told: dict[str, Any] = {
        "lastScheduleTime": _last(observed, outcome),
        "nextScheduleTime": _next(observed, outcome),
        "iterationCount": _count(observed, outcome),
        "runOnCreateGeneration": ran_generation,
    }
    return status | {name: value for name, value in told.items() if value is not None}


def as_time(moment_ms: int) -> str:
    """RFC 3339, to the millisecond where there is one."""
    moment = datetime.datetime.fromtimestamp(moment_ms / 1000, datetime.UTC)
    text = moment.isoformat(timespec="milliseconds" if moment_ms % 1000 else "seconds")
    return text.replace("+00:00", "Z")


def has_ended(record: SchedulerRecord, now_ms: int) -> bool:
    """Whether no slot comes after the stored one, which has come."""
    if record.slot_ms > now_ms:
        return False
    try:
        return schedulers.next_job(record, now_ms) is None
    except errors.InvalidInputError:
        # Nobody knows: a series that cannot be carried on is left as it is.
        return False


def stuck_by(record: SchedulerRecord, now_ms: int) -> str:
    """Why a series whose slot has come cannot be carried on; empty when it can."""
    if record.slot_ms > now_ms:
        return ""
    try:
        schedulers.next_job(record, now_ms)
    except errors.InvalidInputError as problem:
        return str(problem)
    return ""


def _is_known(observed: planning.Observed, outcome: Outcome) -> bool:
    """Whether it was seen what is in Redis."""
    return observed.now_ms > 0 and not outcome.problem


def _ready(observed: planning.Observed, outcome: Outcome) -> Condition:
    assert observed.spec is not None
    if outcome.problem:
        return Condition(Type.READY, Status.FALSE, Reason.REDIS_UNREACHABLE, outcome.problem)
    if observed.spec.is_suspended:
        return Condition(Type.READY, Status.TRUE, Reason.SUSPENDED_BY_SPEC, "spec.suspend is true: there are no slots")
    if outcome.record is not None and (problem := stuck_by(outcome.record, observed.now_ms)):
        return Condition(Type.READY, Status.FALSE, Reason.SERIES_STUCK, f"{outcome.record.id}: {problem}")
    if outcome.record is None or has_ended(outcome.record, observed.now_ms):
        return Condition(Type.READY, Status.TRUE, Reason.ENDED, "endDate or limit is reached: no further slot comes")
    return Condition(Type.READY, Status.TRUE, Reason.SCHEDULED)


def _queue_found(observed: planning.Observed) -> Condition:
    def found(status: Status, reason: Reason, message: str = "") -> Condition:
        return Condition(Type.QUEUE_FOUND, status, reason, message)

    if observed.spec is None:
        return found(Status.UNKNOWN, Reason.PENDING, "see Ready")
    if observed.is_queue_found:
        return found(Status.TRUE, Reason.FOUND)
    return found(Status.FALSE, Reason.QUEUE_NOT_FOUND, f"there is no JobQueue {observed.spec.queue} in this namespace")


def _suspended(observed: planning.Observed) -> Condition:
    if observed.spec is None:
        return Condition(Type.SUSPENDED, Status.UNKNOWN, Reason.PENDING, "see Ready")
    if observed.spec.is_suspended:
        return Condition(Type.SUSPENDED, Status.TRUE, Reason.SUSPENDED_BY_SPEC, "spec.suspend is true")
    return Condition(Type.SUSPENDED, Status.FALSE, Reason.NOT_SUSPENDED)


def _next(observed: planning.Observed, outcome: Outcome) -> str | None:
    """The slot that is to come. While Redis cannot tell, what it told last stays."""
    if not _is_known(observed, outcome):
        told: str | None = observed.status.get("nextScheduleTime")
        return told
    if outcome.record is None or has_ended(outcome.record, observed.now_ms):
        return None
    return as_time(outcome.record.slot_ms)


def _last(observed: planning.Observed, outcome: Outcome) -> str | None:
    """The latest slot that has come, of those that were seen."""
    told: str | None = observed.status.get("lastScheduleTime")
    if not _is_known(observed, outcome):
        return told
    now = as_time(observed.now_ms)
    seen = [told, observed.status.get("nextScheduleTime")]
    seen += [as_time(record.slot_ms) for record in (observed.record, outcome.record) if record is not None]
    # Texts of one form sort as their times do, but for the milliseconds.
    come = [text for text in seen if text is not None and _comparable(text) <= _comparable(now)]
    return max(come, key=_comparable, default=None)


def _comparable(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _count(observed: planning.Observed, outcome: Outcome) -> int | None:
    """How many slots' jobs were made. A record that was removed took its armed one with it."""
    told: int | None = observed.status.get("iterationCount")
    if not _is_known(observed, outcome):
        return told
    if outcome.record is not None:
        return outcome.record.iteration_count
    return planning.made_by(observed) if observed.record is not None else told
