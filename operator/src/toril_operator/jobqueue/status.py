"""What a JobQueue's status should say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toril.jobs.signals import QueueSignals
from toril.scaling.policy import ScalingMode, Unknown
from toril.specs.jobqueue import WorkerMode
from toril_operator import conditions, labels
from toril_operator.conditions import Condition, Reason, Status, Type
from toril_operator.jobqueue import plan as planning

Json = Mapping[str, Any]

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
MAX_TEXT = 300
"""Characters that are taken over from a cluster's own messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a plan."""

    deployment: Json | None = None
    """As it is after the plan."""
    workload_problem: str = ""
    """Why the Deployment could not be written."""
    workload_reason: Reason = Reason.WORKLOAD_FAILED
    """What `Ready` says then."""
    scale_problem: str = ""
    """Why the number of workers could not be changed."""
    is_concurrency_set: bool = False
    """Whether `meta.concurrency` was written as planned."""
    scaled: planning.Scale | None = None
    """A number of workers that was really changed."""


def bucket(count: int) -> int:
    """A count rounded down to 0, 1, 2, 5, 10, 20, 50, 100 …: status must not change with every job."""
    step = 1
    while step * 10 <= count:
        step *= 10
    return next((step * factor for factor in (5, 2, 1) if step * factor <= count), 0)


def build_status(observed: planning.Observed, plan: planning.Plan, outcome: Outcome, now: str) -> dict[str, Any]:
    """The whole status.

    Args:
        now: RFC 3339 time, for what changed at this look.
    """
    workers = _workers(observed, plan, outcome)
    redis = observed.redis
    scaling = _scaling(observed, plan, outcome)
    suspended = _suspended(observed)
    ready = plan.blocked or _ready(redis, workers, outcome)
    deployment_status = (outcome.deployment or {}).get("status") or {} if _is_ours(observed, outcome) else {}
    previous = observed.status
    status: dict[str, Any] = {
        "observedGeneration": observed.generation,
        "phase": _phase(ready, suspended, observed.signal),
        "replicas": int(deployment_status.get("replicas") or 0),
        "readyReplicas": int(deployment_status.get("readyReplicas") or 0),
        "conditions": conditions.build_conditions(
            (ready, redis, workers, scaling, suspended, _schedulers(observed)),
            previous.get("conditions") or (),
            generation=observed.generation,
            now=now,
        ),
    }
    if observed.spec is not None:
        status["queueName"] = observed.spec.queue_name
        status["prefix"] = observed.spec.prefix
        status["selector"] = labels.as_selector_text(labels.selector(observed.key.name))
    change = plan.concurrency if outcome.is_concurrency_set else None
    concurrency = plan.own_concurrency if change is None else change.wanted
    if concurrency is not None:
        status["globalConcurrency"] = concurrency
    if plan.decision is not None:
        status["desiredReplicas"] = plan.decision.replicas
    if (counts := _counts(observed)) is not None:
        status["counts"] = counts
    if (last := _last_scaling(previous, plan, outcome, now)) is not None:
        status["scaling"] = last
    return status


def _is_ours(observed: planning.Observed, outcome: Outcome) -> bool:
    """Whether the Deployment after the plan belongs to this JobQueue."""
    owners = ((outcome.deployment or {}).get("metadata") or {}).get("ownerReferences") or ()
    return any(owner.get("uid") == observed.uid for owner in owners)


def _ready(redis: Condition, workers: Condition, outcome: Outcome) -> Condition:
    if outcome.workload_problem:
        return Condition(Type.READY, Status.FALSE, outcome.workload_reason, outcome.workload_problem)
    if redis.status is Status.FALSE:
        return Condition(Type.READY, Status.FALSE, Reason.REDIS_UNREACHABLE, redis.message)
    if workers.status is Status.FALSE and workers.reason is not Reason.STARTING:
        return Condition(Type.READY, Status.FALSE, Reason.WORKLOAD_FAILED, f"{workers.reason}: {workers.message}")
    if redis.status is Status.UNKNOWN:
        return Condition(Type.READY, Status.UNKNOWN, Reason.PENDING, redis.message)
    return Condition(Type.READY, Status.TRUE, Reason.RECONCILED)


def _phase(ready: Condition, suspended: Condition, signal: QueueSignals | Unknown) -> str:
    if ready.status is Status.FALSE:
        return "Degraded"
    if suspended.status is Status.TRUE:
        return "Suspended"
    return "Active" if isinstance(signal, QueueSignals) and signal.work else "Idle"


def _scaling(observed: planning.Observed, plan: planning.Plan, outcome: Outcome) -> Condition:
    def inactive(reason: Reason, message: str) -> Condition:
        return Condition(Type.SCALING_ACTIVE, Status.FALSE, reason, message)

    if plan.blocked is not None or observed.spec is None:
        return inactive(Reason.METRIC_UNAVAILABLE, "the workers are left alone; see Ready")
    if observed.spec.worker.mode is WorkerMode.NONE:
        return inactive(Reason.NOT_MANAGED, "worker.mode is None")
    if outcome.scale_problem:
        return inactive(Reason.FAILED_UPDATE_SCALE, outcome.scale_problem)
    if observed.spec.scaling.mode is ScalingMode.MANUAL:
        return inactive(Reason.MANUAL, "scaling.mode is Manual: spec.replicas is the number of workers")
    if isinstance(observed.signal, Unknown):
        return inactive(Reason.METRIC_UNAVAILABLE, f"the number of workers is kept: {observed.signal.why}")
    return Condition(Type.SCALING_ACTIVE, Status.TRUE, Reason.SIGNAL_FRESH, "the workers follow the backlog")


def _suspended(observed: planning.Observed) -> Condition:
    def suspended(status: Status, reason: Reason, message: str = "") -> Condition:
        return Condition(Type.SUSPENDED, status, reason, message)

    by_spec = planning.was_suspended_by_spec(observed)
    if observed.spec is not None and observed.spec.is_suspended:
        if observed.duplicate_of is None:
            return suspended(Status.TRUE, Reason.SUSPENDED_BY_SPEC, "spec.suspend is true")
        return suspended(Status.UNKNOWN, Reason.PENDING, "see Ready")
    if isinstance(observed.signal, Unknown):
        if by_spec:
            return suspended(Status.TRUE, Reason.SUSPENDED_BY_SPEC, "to be resumed as soon as Redis answers")
        return suspended(Status.UNKNOWN, Reason.PENDING, "the queue cannot be read")
    if not observed.signal.is_paused:
        return suspended(Status.FALSE, Reason.NOT_SUSPENDED)
    if by_spec:
        return suspended(Status.TRUE, Reason.SUSPENDED_BY_SPEC, "being resumed")
    message = "paused by a BullMQ client; resume it there, or set spec.suspend to true and then to false"
    return suspended(Status.TRUE, Reason.PAUSED_IN_REDIS, message)


def _schedulers(observed: planning.Observed) -> Condition:
    if isinstance(observed.signal, Unknown):
        return Condition(Type.SCHEDULERS_ADVANCING, Status.UNKNOWN, Reason.PENDING, "the queue cannot be read")
    if not observed.stuck_schedulers:
        return Condition(Type.SCHEDULERS_ADVANCING, Status.TRUE, Reason.ADVANCING)
    message = "; ".join(
        f"{name[:MAX_TEXT]}: {why[:MAX_TEXT]}" for name, why in sorted(observed.stuck_schedulers.items())
    )
    return Condition(Type.SCHEDULERS_ADVANCING, Status.FALSE, Reason.SERIES_STUCK, message)


def _workers(observed: planning.Observed, plan: planning.Plan, outcome: Outcome) -> Condition:
    def workers(status: Status, reason: Reason, message: str = "") -> Condition:
        return Condition(Type.WORKERS_AVAILABLE, status, reason, message)

    if plan.blocked is not None or observed.spec is None:
        return workers(Status.UNKNOWN, Reason.PENDING, "see Ready")
    if observed.spec.worker.mode is WorkerMode.NONE:
        return workers(Status.UNKNOWN, Reason.NOT_MANAGED, "worker.mode is None")
    wanted = 0 if plan.decision is None else plan.decision.replicas
    deployment = outcome.deployment or {}
    if wanted == 0:
        return workers(Status.TRUE, Reason.SCALED_TO_ZERO)
    status = deployment.get("status") or {}
    ready = int(status.get("readyReplicas") or 0)
    if ready >= wanted:
        return workers(Status.TRUE, Reason.AVAILABLE)
    failure = _creation_failure(status) or _pod_failure(observed.pods)
    if failure is not None:
        return workers(Status.TRUE if ready else Status.FALSE, *failure)
    if ready:
        return workers(Status.TRUE, Reason.AVAILABLE, "more workers are starting")
    return workers(Status.FALSE, Reason.STARTING, "the first worker is starting")


def _creation_failure(status: Json) -> tuple[Reason, str] | None:
    """Why the cluster does not make our pods."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            message = str(condition.get("message", ""))[:MAX_TEXT]
            if "exceeded quota" in message:
                return Reason.QUOTA_EXCEEDED, message
            if "forbidden" in message or "denied" in message:
                return Reason.ADMISSION_DENIED, message
            return Reason.CREATION_FAILED, message
    return None


def _pod_failure(pods: Sequence[Json]) -> tuple[Reason, str] | None:
    """Why our pods do not run; the first reason found, newest pod first."""
    newest_first = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)
    for pod in newest_first:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        status = pod.get("status") or {}
        for container in status.get("containerStatuses") or ():
            if (failure := _container_failure(pod["metadata"]["name"], container)) is not None:
                return failure
        for condition in status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
                return Reason.UNSCHEDULABLE, str(condition.get("message", ""))[:MAX_TEXT]
    return None


def _container_failure(pod_name: str, container: Json) -> tuple[Reason, str] | None:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason")
    if reason in IMAGE_REASONS:
        return Reason.IMAGE_PULL_FAILED, f"image {str(container.get('image'))[:MAX_TEXT]}: {reason}"
    if reason in CONFIG_REASONS:
        return Reason.CONTAINER_CONFIG_FAILED, f"pod {pod_name}: {str(waiting.get('message', reason))[:MAX_TEXT]}"
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    has_failed = ended and ended.get("exitCode") != 0
    if reason == "CrashLoopBackOff" or (has_failed and not container.get("ready") and container.get("restartCount")):
        why = f"{ended.get('reason', 'Error')}, exit code {ended.get('exitCode', '?')}"
        return Reason.CRASH_LOOPING, f"pod {pod_name} ended with {why}, {container.get('restartCount', 0)} restarts"
    return None


def _counts(observed: planning.Observed) -> dict[str, int] | None:
    """Bucketed counts. While Redis cannot tell, what it told last stays."""
    signal = observed.signal
    if isinstance(signal, Unknown):
        last: dict[str, int] | None = observed.status.get("counts")
        return last
    return {
        "waiting": bucket(signal.waiting),
        "prioritized": bucket(signal.prioritized),
        "active": bucket(signal.active),
        "delayed": bucket(signal.delayed),
        "waitingChildren": bucket(signal.waiting_children),
        "completed": bucket(signal.completed),
        "failed": bucket(signal.failed),
    }


def _last_scaling(previous: Json, plan: planning.Plan, outcome: Outcome, now: str) -> dict[str, Any] | None:
    """The latest change of the number of workers."""
    if outcome.scaled is None or plan.decision is None:
        last: dict[str, Any] | None = previous.get("scaling")
        return last
    return {
        "lastScaleTime": now,
        "lastDecision": {
            "from": outcome.scaled.current,
            "to": outcome.scaled.replicas,
            "reason": str(plan.decision.reason),
            "message": plan.decision.message[:1024],
        },
    }
