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
    """The types of conditions. Every object has all types of its kind."""

    READY = "Ready"
    """Everything that the spec asks for is done and works."""
    REDIS_REACHABLE = "RedisReachable"
    """The queue can be read."""
    WORKERS_AVAILABLE = "WorkersAvailable"
    """There are as many workers as there should be, or there should be none."""
    SCALING_ACTIVE = "ScalingActive"
    """The number of workers follows the backlog."""
    SUSPENDED = "Suspended"
    """No new jobs are started, or no more slots made."""
    SCHEDULERS_ADVANCING = "SchedulersAdvancing"
    """The job schedulers that are stored in the queue can be carried on, whichever client stored them."""
    QUEUE_FOUND = "QueueFound"
    """The JobQueue of a schedule exists."""
    SCHEDULE_VALID = "ScheduleValid"
    """The cron expression and the time zone of a schedule are valid."""


class Status(StrEnum):
    """The status of a condition, in Kubernetes' words."""

    TRUE = "True"
    """What the type says holds."""
    FALSE = "False"
    """It does not hold; the reason says why."""
    UNKNOWN = "Unknown"
    """It could not be found out yet, or has no meaning for this object."""


class Reason(StrEnum):
    """Every reason of every condition. The reasons of an unreachable Redis are those of `toril.errors.RedisReason`."""

    PENDING = "Pending"
    """Not known yet."""

    RECONCILED = "Reconciled"
    """Everything is as the spec asks."""
    INVALID_SPEC = "InvalidSpec"
    """A field is wrong; the message has its path."""
    REDIS_UNREACHABLE = "RedisUnreachable"
    """See `RedisReachable`."""
    WORKLOAD_FAILED = "WorkloadFailed"
    """The Deployment could not be written, or its pods do not come up."""
    NAME_CONFLICT = "NameConflict"
    """A Deployment of the name belongs to another owner."""
    DUPLICATE_TARGET = "DuplicateTarget"
    """An older object has the same queue, or the same scheduler of a queue."""
    TERMINATING = "Terminating"
    """The object is being deleted."""

    CONNECTED = "Connected"
    """Redis answers."""
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a word, no secret
    """A Secret or its key does not exist, or may not be read."""
    SECRET_INVALID = "SecretInvalid"  # noqa: S105
    """The content of a Secret cannot be used."""

    AVAILABLE = "Available"
    """At least one worker is ready."""
    SCALED_TO_ZERO = "ScaledToZero"
    """There should be no worker, and there is none."""
    STARTING = "Starting"
    """No worker is ready; pods are starting without a problem so far."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """The image cannot be pulled."""
    CRASH_LOOPING = "CrashLooping"
    """The worker ends again and again."""
    CONTAINER_CONFIG_FAILED = "ContainerConfigFailed"
    """The node cannot start the container as described, such as for a missing Secret."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """The quota of the namespace is used up."""
    ADMISSION_DENIED = "AdmissionDenied"
    """Admission refuses the pods."""
    UNSCHEDULABLE = "Unschedulable"
    """No node fits the pods, or has room."""
    CREATION_FAILED = "CreationFailed"
    """Pods cannot be created for another reason; the message has the API server's words."""
    NOT_MANAGED = "NotManaged"
    """`worker.mode: None`: there are no workers of ours."""

    SIGNAL_FRESH = "SignalFresh"
    """The backlog is known."""
    METRIC_UNAVAILABLE = "MetricUnavailable"
    """The backlog is not known: the number of workers stays."""
    MANUAL = "Manual"
    """`scaling.mode: Manual`: the number is `spec.replicas`."""
    FAILED_UPDATE_SCALE = "FailedUpdateScale"
    """The API server refused the number of replicas."""

    SUSPENDED_BY_SPEC = "SuspendedBySpec"
    """`spec.suspend` is true, or was and the queue is not resumed yet."""
    PAUSED_IN_REDIS = "PausedInRedis"
    """Another client has paused the queue. The operator does not resume it."""
    NOT_SUSPENDED = "NotSuspended"
    """Jobs are started, and slots are made."""

    ADVANCING = "Advancing"
    """No series is known that cannot be carried on."""
    SERIES_STUCK = "SeriesStuck"
    """A series cannot be carried on and is left as it is; the message has its id."""

    FOUND = "Found"
    """The JobQueue exists."""
    QUEUE_NOT_FOUND = "QueueNotFound"
    """There is no JobQueue of the name in the namespace."""
    VALID = "Valid"
    """The schedule is valid, or is an interval."""
    BAD_CRON = "BadCron"
    """The cron expression cannot be read."""
    UNKNOWN_TIME_ZONE = "UnknownTimeZone"
    """There is no such time zone."""
    SCHEDULED = "Scheduled"
    """The job of the next slot is stored and delayed until the slot."""
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
