"""The conditions of our kinds: their types, their reasons, and how a list of them is carried forward. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from toril.errors import RedisReason

MAX_MESSAGE = 1000
"""Characters of a condition's message."""


class Type(StrEnum):
    """What a condition is about. Every object has all those of its kind."""

    READY = "Ready"
    """Everything that was asked for is done and works."""
    REDIS_REACHABLE = "RedisReachable"
    """The queue can be read."""
    WORKERS_AVAILABLE = "WorkersAvailable"
    """There are as many workers as there should be, or there should be none."""
    SCALING_ACTIVE = "ScalingActive"
    """The number of workers follows the backlog."""
    SUSPENDED = "Suspended"
    """No new jobs are started, or no more slots made."""
    SCHEDULERS_ADVANCING = "SchedulersAdvancing"
    """The job schedulers that are stored in the queue can be carried on, whoever stored them."""
    QUEUE_FOUND = "QueueFound"
    """A schedule's JobQueue is there."""
    SCHEDULE_VALID = "ScheduleValid"
    """A schedule's cron expression and time zone mean something."""


class Status(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Every reason of every condition. The reasons of an unreachable Redis are those of `toril.errors.RedisReason`."""

    PENDING = "Pending"
    """Not looked at yet."""

    RECONCILED = "Reconciled"
    INVALID_SPEC = "InvalidSpec"
    """A field is wrong; the message has its path."""
    REDIS_UNREACHABLE = "RedisUnreachable"
    """See `RedisReachable`."""
    WORKLOAD_FAILED = "WorkloadFailed"
    """The Deployment could not be written, or its pods do not come up."""
    NAME_CONFLICT = "NameConflict"
    """Somebody else's Deployment has the name."""
    DUPLICATE_TARGET = "DuplicateTarget"
    """An older object is there for the same thing: the same queue, or the same scheduler of a queue."""
    TERMINATING = "Terminating"

    CONNECTED = "Connected"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a word, no secret
    SECRET_INVALID = "SecretInvalid"  # noqa: S105

    AVAILABLE = "Available"
    SCALED_TO_ZERO = "ScaledToZero"
    STARTING = "Starting"
    """Pods are on their way, and nothing is wrong with them so far."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOPING = "CrashLooping"
    CONTAINER_CONFIG_FAILED = "ContainerConfigFailed"
    """The node cannot start the container as described, such as for a missing Secret."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_DENIED = "AdmissionDenied"
    UNSCHEDULABLE = "Unschedulable"
    CREATION_FAILED = "CreationFailed"
    """Pods cannot be created for another reason; the message has the API server's words."""
    NOT_MANAGED = "NotManaged"
    """`worker.mode: None`: there are no workers of ours."""

    SIGNAL_FRESH = "SignalFresh"
    METRIC_UNAVAILABLE = "MetricUnavailable"
    """The backlog is not known: the number of workers stays."""
    MANUAL = "Manual"
    FAILED_UPDATE_SCALE = "FailedUpdateScale"

    SUSPENDED_BY_SPEC = "SuspendedBySpec"
    PAUSED_IN_REDIS = "PausedInRedis"
    """Somebody paused the queue by BullMQ's means; it is theirs to resume."""
    NOT_SUSPENDED = "NotSuspended"

    ADVANCING = "Advancing"
    SERIES_STUCK = "SeriesStuck"
    """A series cannot be carried on and is left as it is; the message has its id."""

    FOUND = "Found"
    QUEUE_NOT_FOUND = "QueueNotFound"
    VALID = "Valid"
    BAD_CRON = "BadCron"
    UNKNOWN_TIME_ZONE = "UnknownTimeZone"
    SCHEDULED = "Scheduled"
    """The next slot's job is ready and waits for its time."""
    ENDED = "Ended"
    """There is no further slot: `endDate` or `limit` is reached."""
    INVALID_SCHEDULE = "InvalidSchedule"
    """See `ScheduleValid`."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as it is now, without its history."""

    type: Type
    status: Status
    reason: Reason | RedisReason
    message: str = ""


def build_conditions(
    present: Iterable[Condition], previous: Sequence[Mapping[str, Any]], *, generation: int, now: str
) -> list[dict[str, Any]]:
    """The list for `status.conditions`: `lastTransitionTime` moves only when `status` changes.

    Args:
        previous: what the object has now.
        now: RFC 3339 time of this look.
    """
    before = {entry.get("type"): entry for entry in previous}
    built = []
    for condition in sorted(present, key=lambda each: each.type):
        old = before.get(condition.type, {})
        is_same = old.get("status") == condition.status
        since = old.get("lastTransitionTime") if is_same else None
        built.append(
            {
                "type": str(condition.type),
                "status": str(condition.status),
                "observedGeneration": generation,
                "lastTransitionTime": since or now,
                "reason": str(condition.reason),
                "message": condition.message[:MAX_MESSAGE],
            }
        )
    return built


def find(conditions: Sequence[Mapping[str, Any]], kind: Type) -> Mapping[str, Any]:
    """The condition of one type, or an empty mapping."""
    return next((entry for entry in conditions if entry.get("type") == kind), {})
