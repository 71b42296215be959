from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from support.operator_objects import UID, deployment, observe, plan, settled
from toril.jobs.signals import QueueSignals
from toril.scaling.decide import Reason as ScalingReason
from toril.scaling.policy import Unknown
from toril_operator.conditions import Reason
from toril_operator.jobqueue.plan import Memory, Scale, SetConcurrency

BUSY = QueueSignals(waiting=3)
WORKER = {"processor": {"python": {"module": "app.jobs"}}}


def test_a_new_deployment_begins_at_zero_and_is_then_the_scalers() -> None:
    made = plan(observe(signal=BUSY))
    assert made.manifest is not None
    assert made.manifest["spec"]["replicas"] == 0
    assert made.scale_first is None
    assert made.scale == Scale(current=0, replicas=3)


def test_also_zero_replicas_are_claimed_by_the_scaler() -> None:
    assert plan(observe()).scale == Scale(current=0, replicas=0)


@pytest.mark.requirement("T109")
def test_nothing_is_done_when_all_is_as_it_should_be() -> None:
    observed, memory = settled(observe(), replicas=0)
    made = plan(observed, memory)
    assert (made.manifest, made.scale_first, made.scale, made.delete, made.pause) == (None,) * 5


@pytest.mark.requirement("T113")
def test_the_scaler_claims_before_the_manifest_leaves_replicas_out() -> None:
    """The trap: a number that its only owner stops sending becomes 1."""
    observed = observe(spec={"scaling": {"mode": "Manual"}, "replicas": 7})
    half_made = deployment(observed, replicas=7, is_scaled=False)
    made = plan(replace(observed, deployment=half_made))
    assert made.scale_first == Scale(current=7, replicas=7)
    assert made.scale is None
    assert made.manifest is not None
    assert "replicas" not in made.manifest["spec"]


def test_a_lower_number_is_for_the_deployment_as_it_was_seen() -> None:
    observed, memory = settled(observe(spec={"scaling": {"mode": "Manual"}, "replicas": 1}), replicas=4)
    assert plan(observed, memory).scale == Scale(current=4, replicas=1, resource_version="7")
    observed, memory = settled(observe(spec={"scaling": {"mode": "Manual"}, "replicas": 5}), replicas=4)
    assert plan(observed, memory).scale == Scale(current=4, replicas=5)


def test_after_a_restart_it_is_applied_once() -> None:
    observed, _ = settled(observe(), replicas=0)
    assert plan(observed, Memory()).manifest is not None


def changed(observed: Any, **spec: Any) -> Any:
    """The Deployment with other fields in its spec."""
    made = copy.deepcopy(observed.deployment)
    made["spec"] |= spec
    return replace(observed, deployment=made)


def test_a_change_by_somebody_else_is_seen_but_not_that_of_the_scaler() -> None:
    observed, memory = settled(observe(signal=BUSY), replicas=3)
    assert plan(changed(observed, replicas=9), memory).manifest is None
    assert plan(changed(observed, paused=True), memory).manifest is not None


@pytest.mark.parametrize("part", ["labels", "annotations"])
def test_a_lost_label_or_annotation_is_seen(part: str) -> None:
    observed, memory = settled(observe(), replicas=0)
    made = copy.deepcopy(observed.deployment)
    assert made is not None
    made["metadata"][part] = {"theirs": "x"}
    assert plan(replace(observed, deployment=made), memory).manifest is not None


def test_a_changed_spec_is_applied() -> None:
    observed, memory = settled(observe(), replicas=0)
    other = observe(spec={"worker": {**WORKER, "concurrency": 2}})
    assert plan(replace(other, deployment=observed.deployment), memory).manifest is not None


def test_unknown_keeps_the_number_also_of_a_deployment_that_was_taken_away() -> None:
    unknown = Unknown("Redis is away")
    observed, memory = settled(observe(signal=unknown), replicas=4)
    made = plan(observed, memory)
    assert made.scale is None
    assert made.decision is not None
    assert made.decision.reason is ScalingReason.METRIC_UNAVAILABLE
    gone = plan(observe(signal=unknown), Memory(replicas=4))
    assert gone.manifest is not None
    assert gone.manifest["spec"]["replicas"] == 4
    restarted = plan(observe(signal=unknown, status={"desiredReplicas": 5}))
    assert restarted.manifest is not None
    assert restarted.manifest["spec"]["replicas"] == 5


def test_only_our_own_pods_count_as_busy() -> None:
    locks = {"jq-email-5cd4cf4ffb-aaaaa": 1, "jq-email-5cd4cf4ffb-bbbbb": 2, "laptop": 1, "": 3}
    signal = QueueSignals(active=7, locks_by_worker=locks)
    spec = {
        "worker": {**WORKER, "concurrency": 7},
        "scaling": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}},
    }
    observed, memory = settled(observe(spec=spec, signal=signal), replicas=5, ready=5)
    made = plan(observed, memory)
    assert made.scale is not None
    assert made.scale.replicas == 2
    assert made.decision is not None
    assert made.decision.reason is ScalingReason.BUSY_WORKERS


@pytest.mark.parametrize(("active", "ready", "expected"), [(1, 0, True), (1, 1, False), (0, 0, False)])
def test_stalled_jobs_are_looked_for_when_nobody_else_can(active: int, ready: int, expected: bool) -> None:
    observed, memory = settled(observe(signal=QueueSignals(active=active)), replicas=1, ready=ready)
    assert plan(observed, memory).recover_stalled is expected


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"is_terminating": True}, Reason.TERMINATING),
        ({"spec": None, "spec_problem": "spec.x: is wrong"}, Reason.INVALID_SPEC),
    ],
)
def test_obstacles_stop_everything(known: dict[str, Any], reason: Reason) -> None:
    base, memory = settled(observe(signal=BUSY), replicas=1)
    made = plan(replace(base, **known), memory)
    assert made.blocked is not None
    assert made.blocked.reason is reason
    assert (made.manifest, made.scale_first, made.scale, made.delete) == (None,) * 4


def test_the_workers_of_a_duplicate_go() -> None:
    observed, memory = settled(observe(signal=BUSY), replicas=1)
    made = plan(replace(observed, duplicate_of="older"), memory)
    assert made.blocked is not None
    assert made.blocked.reason is Reason.DUPLICATE_TARGET
    assert made.delete == observed.deployment
    assert (made.manifest, made.scale_first, made.scale) == (None,) * 3
    assert plan(observe(duplicate_of="older")).delete is None


@pytest.mark.parametrize("owner", [None, {"uid": "someone", "controller": True, "kind": "JobQueue", "name": "email"}])
def test_a_deployment_of_somebody_else_is_left_alone(owner: dict[str, Any] | None) -> None:
    observed = observe(signal=BUSY)
    theirs = deployment(observed, replicas=1)
    theirs["metadata"]["ownerReferences"] = [owner] if owner else []
    for mode in ("Managed", "None"):
        now = observe(spec={"worker": {**WORKER, "mode": mode}}, signal=BUSY, deployment=theirs)
        made = plan(now)
        assert (made.manifest, made.scale_first, made.scale, made.delete) == (None,) * 4
    assert plan(replace(observed, deployment=theirs)).blocked is not None


def test_a_deployment_of_ours_goes_when_nobody_is_to_work() -> None:
    observed = observe(spec={"worker": {"mode": "None"}})
    ours = deployment(observe(), replicas=1)
    assert ours["metadata"]["ownerReferences"][0]["uid"] == UID
    assert plan(replace(observed, deployment=ours)).delete == ours
    assert plan(observed).delete is None


@pytest.mark.parametrize(
    ("suspend", "is_paused", "said", "expected"),
    [
        (True, False, None, True),
        (True, True, None, None),
        (False, True, "SuspendedBySpec", False),
        (False, True, "PausedInRedis", None),
        (False, True, None, None),
        (False, False, "SuspendedBySpec", None),
    ],
)
def test_pausing_and_resuming(suspend: bool, is_paused: bool, said: str | None, expected: bool | None) -> None:
    status = {"conditions": [{"type": "Suspended", "reason": said}]} if said else {}
    signal = QueueSignals(is_paused=is_paused)
    assert plan(observe(spec={"suspend": suspend}, signal=signal, status=status)).pause is expected


def test_nothing_is_paused_or_resumed_while_redis_cannot_tell() -> None:
    assert plan(observe(spec={"suspend": True}, signal=Unknown("away"))).pause is None


@pytest.mark.parametrize(
    ("wanted", "found", "ours", "change", "still_ours"),
    [
        (None, None, None, None, None),
        (None, 3, None, None, None),
        (2, None, None, SetConcurrency(2, None), None),
        (2, 2, None, None, 2),
        (2, 2, 2, None, 2),
        (2, 3, None, SetConcurrency(2, 3), None),
        (2, 3, 2, SetConcurrency(2, 3, is_restored=True), 2),
        (2, None, 2, SetConcurrency(2, None, is_restored=True), 2),
        (2, 1, 1, SetConcurrency(2, 1), 1),
        (None, 2, 2, SetConcurrency(None, 2), 2),
        (None, 3, 2, None, None),
        (None, None, 2, None, None),
    ],
)
def test_the_queues_concurrency_is_the_manifests_or_nobodys(
    wanted: int | None, found: int | None, ours: int | None, change: SetConcurrency | None, still_ours: int | None
) -> None:
    spec = {} if wanted is None else {"globalConcurrency": wanted}
    status = {} if ours is None else {"globalConcurrency": ours}
    for mode in ("Managed", "None"):
        worker = {**WORKER, "mode": mode}
        made = plan(
            observe(spec={**spec, "worker": worker}, signal=QueueSignals(global_concurrency=found), status=status)
        )
        assert (made.concurrency, made.own_concurrency) == (change, still_ours)


def test_a_reading_from_before_the_write_says_nothing_of_the_queues_concurrency() -> None:
    observed = observe(
        spec={"globalConcurrency": 2}, signal=QueueSignals(global_concurrency=3), status={"globalConcurrency": 1}
    )
    for known in (replace(observed, signal_ms=500), replace(observed, signal=Unknown("away"))):
        made = plan(known, Memory(concurrency_set_ms=500))
        assert (made.concurrency, made.own_concurrency) == (None, 1)
    assert plan(replace(observed, signal_ms=501), Memory(concurrency_set_ms=500)).concurrency is not None
