"""What is to be done about a JobQueue, given what is known of it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from toril.jobs.signals import QueueSignals
from toril.scaling.decide import Decision, History, decide
from toril.scaling.policy import FleetState, Unknown
from toril.specs.jobqueue import API_VERSION, KIND, JobQueueSpec, WorkerMode
from toril_operator import conditions, labels, object_cache
from toril_operator.conditions import Condition, Reason, Type
from toril_operator.jobqueue import desired

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One JobQueue as it is now."""

    key: object_cache.Key
    uid: str
    generation: int
    is_terminating: bool
    spec: JobQueueSpec | None
    """None when a field is wrong."""
    spec_problem: str = ""
    """The wrong field's path and what is wrong with it."""
    deployment: Json | None = None
    """Whatever has the name of ours."""
    pods: Sequence[Json] = ()
    """Our pods; looked at only while some are not ready."""
    signal: QueueSignals | Unknown = field(default_factory=lambda: Unknown("the queue has not been looked at yet"))
    signal_ms: int = 0
    """When the reading of `signal` began, monotonic clock."""
    stuck_schedulers: Mapping[str, str] = field(default_factory=dict)
    """Ids of job schedulers that cannot be carried on, and why."""
    redis: Condition
    duplicate_of: str | None = None
    """Name of the older JobQueue that serves the same queue."""
    status: Json = field(default_factory=dict)
    """What the object's status says."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The Deployment as the server answered to our last apply: what differs from it was changed by somebody else."""

    digest: str
    """Of the manifest that was applied."""
    uid: str
    spec: Json
    """Without replicas."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one look leaves for the next. Losing it costs a whole down window, and one write that changes nothing."""

    history: History = field(default_factory=History)
    applied: Applied | None = None
    replicas: int | None = None
    """The number of workers asked for last."""
    concurrency_set_ms: int | None = None
    """When `meta.concurrency` was written last, monotonic clock: an older reading says nothing about it."""


@dataclass(frozen=True, slots=True)
class WorkerDefaults:
    """What a JobQueue's workers get when it does not say."""

    image: str
    image_pull_policy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A new number of workers, or the first claim on the present one."""

    current: int
    replicas: int
    resource_version: str | None = None
    """Only if the Deployment is still at this one: for a lower number."""


@dataclass(frozen=True, slots=True)
class SetConcurrency:
    """What `meta.concurrency` is to be."""

    wanted: int | None
    """None = remove it."""
    found: int | None
    """What it is now."""
    is_restored: bool = False
    """It was as it should be, and another client has changed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, in this order; nothing at all is the usual case."""

    blocked: Condition | None = None
    """Why nothing may be done about the Deployment; this is then what `Ready` says."""
    delete: Json | None = None
    scale_first: Scale | None = None
    """Before the Deployment is applied: the scaler must own the replicas before the manifest leaves them out."""
    manifest: dict[str, Any] | None = None
    scale: Scale | None = None
    pause: bool | None = None
    """True = pause the queue, False = resume it."""
    concurrency: SetConcurrency | None = None
    own_concurrency: int | None = None
    """What we have set in `meta.concurrency` before, and what is still ours."""
    recover_stalled: bool = False
    """Look for jobs whose worker is gone: there is no worker to do it."""
    promote: bool = False
    """Move due jobs to where they run from: there is no worker to do it."""
    decision: Decision | None = None
    history: History = field(default_factory=History)


def make_plan(observed: Observed, memory: Memory, defaults: WorkerDefaults, now_ms: int) -> Plan:
    """Args: now_ms: a clock that never steps back, for the scaler's history."""
    if (blocked := find_obstacle(observed)) is not None:
        # The older one's workers do it all, so that those of a duplicate go.
        is_superfluous = blocked.reason is Reason.DUPLICATE_TARGET and is_ours(observed)
        own_concurrency = observed.status.get("globalConcurrency")
        delete = observed.deployment if is_superfluous else None
        return Plan(blocked=blocked, delete=delete, own_concurrency=own_concurrency)
    assert observed.spec is not None
    concurrency, own_concurrency = _concurrency(observed, observed.spec, memory)
    pause = _pause(observed, observed.spec)
    queue = Plan(pause=pause, concurrency=concurrency, own_concurrency=own_concurrency)
    if observed.spec.worker.mode is WorkerMode.NONE:
        # Jobs that are due are seen as waiting, whoever comes for them.
        delete = observed.deployment if is_ours(observed) else None
        return replace(queue, delete=delete, promote=_has_due_jobs(observed.signal))
    if observed.deployment is not None and not is_ours(observed):
        return replace(queue, blocked=_name_conflict(observed))
    return _managed(queue, observed, observed.spec, memory, defaults, now_ms)


def find_obstacle(observed: Observed) -> Condition | None:
    """Why this JobQueue's workers must be left alone, as its `Ready`."""

    def not_ready(reason: Reason, message: str) -> Condition:
        return Condition(Type.READY, conditions.Status.FALSE, reason, message)

    if observed.is_terminating:
        return not_ready(Reason.TERMINATING, "the JobQueue is being deleted")
    if observed.spec is None:
        return not_ready(Reason.INVALID_SPEC, observed.spec_problem)
    if observed.duplicate_of is not None:
        message = f"JobQueue {observed.duplicate_of} is older and serves the same queue; delete one of the two"
        return not_ready(Reason.DUPLICATE_TARGET, message)
    return None


def is_ours(observed: Observed) -> bool:
    """Whether the Deployment belongs to exactly this JobQueue."""
    return observed.deployment is not None and object_cache.owner_of(observed.deployment).get("uid") == observed.uid


def is_scaler_owner(deployment: Json) -> bool:
    """Whether our scaler owns `spec.replicas`, so that a manifest may leave it out."""
    return any(
        entry.get("manager") == labels.SCALER_MANAGER
        and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
        for entry in deployment["metadata"].get("managedFields") or ()
    )


def remember_applied(manifest: Json, answer: Json) -> Applied:
    """What to remember of an apply."""
    return Applied(_digest(manifest), answer["metadata"]["uid"], _without_replicas(answer["spec"]))


def _managed(
    queue: Plan, observed: Observed, spec: JobQueueSpec, memory: Memory, defaults: WorkerDefaults, now_ms: int
) -> Plan:
    """Args: queue: what is to be done about the queue itself."""
    deployment = observed.deployment
    current = _current(observed, memory)
    ready = int(((deployment or {}).get("status") or {}).get("readyReplicas") or 0)
    state = FleetState(current=current, busy=_busy(observed.signal, labels.part_name(spec.name)))
    decision, history = decide(spec.scaling, observed.signal, memory.history, state, now_ms)
    owner = desired.owner_reference(API_VERSION, KIND, spec.name, observed.uid)
    is_owned = deployment is not None and is_scaler_owner(deployment)
    manifest = desired.build_deployment(
        spec,
        owner,
        image=defaults.image,
        image_pull_policy=defaults.image_pull_policy,
        replicas=current if deployment is None else None,
    )
    version = None if deployment is None else deployment["metadata"].get("resourceVersion")
    is_lower = decision.replicas < current
    scale = Scale(current=current, replicas=decision.replicas, resource_version=version if is_lower else None)
    needs_scale = not is_owned or decision.replicas != current
    is_first = needs_scale and deployment is not None and not is_owned
    return replace(
        queue,
        scale_first=scale if is_first else None,
        manifest=manifest if deployment is None or _differs(deployment, manifest, memory.applied) else None,
        scale=scale if needs_scale and not is_first else None,
        recover_stalled=isinstance(observed.signal, QueueSignals) and observed.signal.active > 0 and ready == 0,
        promote=ready == 0 and _has_due_jobs(observed.signal),
        decision=decision,
        history=history,
    )


def _has_due_jobs(signal: QueueSignals | Unknown) -> bool:
    return isinstance(signal, QueueSignals) and signal.delayed_due > 0


def _current(observed: Observed, memory: Memory) -> int:
    """How many workers were asked for last, also when the Deployment has been taken away."""
    if observed.deployment is not None:
        replicas = observed.deployment["spec"].get("replicas")
        return 1 if replicas is None else int(replicas)
    if memory.replicas is not None:
        return memory.replicas
    return int(observed.status.get("desiredReplicas") or 0)


def _busy(signal: QueueSignals | Unknown, deployment_name: str) -> int:
    """Our workers that hold jobs."""
    if isinstance(signal, Unknown):
        return 0
    return sum(1 for worker in signal.locks_by_worker if labels.is_pod_of(deployment_name, worker))


def _differs(deployment: Json, manifest: Json, applied: Applied | None) -> bool:
    """Whether the Deployment is not as we last applied it, or something else is wanted by now."""
    if applied is None or applied.digest != _digest(manifest) or applied.uid != deployment["metadata"]["uid"]:
        return True
    if _without_replicas(deployment["spec"]) != applied.spec:
        return True
    metadata, wanted = deployment["metadata"], manifest["metadata"]
    return any(
        (metadata.get(part) or {}).get(name) != value
        for part in ("labels", "annotations")
        for name, value in wanted[part].items()
    )


def _pause(observed: Observed, spec: JobQueueSpec) -> bool | None:
    """Pause when the spec says so; resume only what was paused because the spec said so."""
    if isinstance(observed.signal, Unknown) or observed.signal.is_paused == spec.is_suspended:
        return None
    if spec.is_suspended:
        return True
    return False if was_suspended_by_spec(observed) else None


def _concurrency(observed: Observed, spec: JobQueueSpec, memory: Memory) -> tuple[SetConcurrency | None, int | None]:
    """Keep `meta.concurrency` as the spec says; without a word there, remove only what we have set.

    Returns:
        What to write, and what is ours without that.
    """
    ours = observed.status.get("globalConcurrency")
    is_written_since = memory.concurrency_set_ms is not None and observed.signal_ms <= memory.concurrency_set_ms
    if isinstance(observed.signal, Unknown) or is_written_since:
        return None, ours
    wanted, found = spec.global_concurrency, observed.signal.global_concurrency
    if wanted == found:
        return None, wanted
    if wanted is not None:
        return SetConcurrency(wanted, found, is_restored=wanted == ours), ours
    # Another client's number is its own, also where ours was before.
    return (SetConcurrency(None, found), ours) if ours is not None and ours == found else (None, None)


def was_suspended_by_spec(observed: Observed) -> bool:
    """Whether `spec.suspend` paused the queue. The condition is where this is remembered over restarts."""
    said = conditions.find(observed.status.get("conditions") or (), Type.SUSPENDED)
    return said.get("reason") == Reason.SUSPENDED_BY_SPEC


def _name_conflict(observed: Observed) -> Condition:
    assert observed.deployment is not None
    name = observed.deployment["metadata"]["name"]
    owner = object_cache.owner_of(observed.deployment)
    if owner.get("kind") == KIND and owner.get("name") == observed.key.name:
        message = f"Deployment {name} is that of an earlier JobQueue of this name and is being removed"
    else:
        message = f"there is a Deployment {name} that does not belong to this JobQueue; rename or delete it"
    return Condition(Type.READY, conditions.Status.FALSE, Reason.NAME_CONFLICT, message)


def _without_replicas(spec: Json) -> Json:
    return {name: value for name, value in spec.items() if name != "replicas"}


def _digest(manifest: Json) -> str:
    """Of everything but replicas."""
    comparable = {**manifest, "spec": _without_replicas(manifest["spec"])}
    return hashlib.sha256(json.dumps(comparable, sort_keys=True).encode()).hexdigest()
