"""A JobQueue, its Deployment and what is observed of both, for tests of the pure parts."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from toril.jobs.signals import QueueSignals
from toril.specs.jobqueue import parse_job_queue
from toril_operator.conditions import Condition, Reason, Status, Type
from toril_operator.jobqueue import desired
from toril_operator.jobqueue.plan import Memory, Observed, Plan, WorkerDefaults, make_plan, remember_applied
from toril_operator.object_cache import Key

DEFAULTS = WorkerDefaults("toril/worker:1", "IfNotPresent")
UID = "uid-1"
CONNECTED = Condition(Type.REDIS_REACHABLE, Status.TRUE, Reason.CONNECTED)
Json = dict[str, Any]


def manifest(**spec: Any) -> Json:
    return {
        "apiVersion": "toril.dev/v1alpha1",
        "kind": "JobQueue",
        "metadata": {"name": "email", "namespace": "team"},
        "spec": {
            "redis": {"url": "redis://redis:6379"},
            "worker": {"processor": {"python": {"module": "app.jobs"}}},
            **spec,
        },
    }


def observe(*, spec: Json | None = None, **known: Any) -> Observed:
    """Everything fine, an empty queue, no Deployment; `known` replaces."""
    observed = Observed(
        key=Key("team", "email"),
        uid=UID,
        generation=1,
        is_terminating=False,
        spec=parse_job_queue(manifest(**(spec or {}))),
        signal=QueueSignals(),
        redis=CONNECTED,
    )
    return replace(observed, **known)


def plan(observed: Observed, memory: Memory | None = None, now_ms: int = 0) -> Plan:
    return make_plan(observed, memory or Memory(), DEFAULTS, now_ms)


def deployment(observed: Observed, *, replicas: int, is_scaled: bool = True, ready: int = 0) -> Json:
    """The Deployment as the server shows it after our apply (and after the scaler's, if `is_scaled`)."""
    assert observed.spec is not None
    owner = desired.owner_reference("toril.dev/v1alpha1", "JobQueue", observed.key.name, UID)
    built = copy.deepcopy(
        desired.build_deployment(
            observed.spec, owner, image=DEFAULTS.image, image_pull_policy=DEFAULTS.image_pull_policy, replicas=replicas
        )
    )
    fields: Json = {"f:spec": {"f:replicas": {}}}
    managers = [{"manager": "toril-operator", "operation": "Apply", "fieldsV1": fields}]
    if is_scaled:
        scaler = {"manager": "toril-operator-scaler", "operation": "Apply", "subresource": "scale", "fieldsV1": fields}
        managers = [scaler]
    built["metadata"] |= {"uid": "d-1", "resourceVersion": "7", "managedFields": managers}
    built["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    built["status"] = {"replicas": replicas, "readyReplicas": ready}
    return built


def settled(observed: Observed, *, replicas: int, ready: int = 0) -> tuple[Observed, Memory]:
    """The JobQueue with its Deployment, and the memory of having applied it."""
    made = deployment(observed, replicas=replicas, ready=ready)
    wanted = plan(observed).manifest
    assert wanted is not None
    return replace(observed, deployment=made), Memory(applied=remember_applied(wanted, made))
