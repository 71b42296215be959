from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.operator_objects import deployment, observe, plan, settled
from toril.errors import RedisReason
from toril.jobs.signals import QueueSignals
from toril.scaling.policy import Unknown
from toril_operator.conditions import Condition, Reason, Status, Type
from toril_operator.jobqueue.plan import Observed, Scale
from toril_operator.jobqueue.status import Outcome, bucket, build_status

NOW = "2030-01-01T00:00:00Z"


def status_of(observed: Observed, **outcome: Any) -> dict[str, Any]:
    given = {"deployment": observed.deployment, **outcome}
    return build_status(observed, plan(observed), Outcome(**given), NOW)


def reason(status: dict[str, Any], kind: str) -> str:
    (found,) = [entry for entry in status["conditions"] if entry["type"] == kind]
    return f"{found['status']}/{found['reason']}"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, 0),
        (1, 1),
        (2, 2),
        (4, 2),
        (5, 5),
        (9, 5),
        (10, 10),
        (19, 10),
        (49, 20),
        (50, 50),
        (99, 50),
        (123_456, 100_000),
    ],
)
def test_buckets(count: int, shown: int) -> None:
    assert bucket(count) == shown


def test_every_condition_is_there_from_the_first_look() -> None:
    first = status_of(
        observe(redis=Condition(Type.REDIS_REACHABLE, Status.UNKNOWN, Reason.PENDING), signal=Unknown("?"))
    )
    assert {entry["type"] for entry in first["conditions"]} == set(Type) - {Type.QUEUE_FOUND, Type.SCHEDULE_VALID}
    assert reason(first, "Ready") == "Unknown/Pending"


def test_an_idle_queue() -> None:
    observed, _ = settled(observe(), replicas=0)
    status = status_of(observed)
    assert reason(status, "Ready") == "True/Reconciled"
    assert reason(status, "WorkersAvailable") == "True/ScaledToZero"
    assert status["phase"] == "Idle"
    assert status["queueName"] == "email"
    assert status["desiredReplicas"] == 0
    assert "scaling" not in status


def test_a_status_does_not_change_with_every_job() -> None:
    observed, _ = settled(observe(signal=QueueSignals(waiting=12)), replicas=10, ready=10)
    before = status_of(observed)
    assert status_of(replace(observed, signal=QueueSignals(waiting=19))) == before
    assert status_of(replace(observed, signal=QueueSignals(waiting=20))) != before


def test_what_redis_told_last_stays_while_it_cannot_tell() -> None:
    redis = Condition(Type.REDIS_REACHABLE, Status.FALSE, RedisReason.TIMEOUT, "Redis r:1/0: no answer in time")
    known = {"counts": {"waiting": 5}, "scaling": {"lastScaleTime": "t"}}
    observed, _ = settled(observe(signal=Unknown("away"), redis=redis, status=known), replicas=3, ready=3)
    status = status_of(observed)
    assert status["counts"] == {"waiting": 5}
    assert status["scaling"] == {"lastScaleTime": "t"}
    assert reason(status, "RedisReachable") == "False/Timeout"
    assert reason(status, "Ready") == "False/RedisUnreachable"
    assert reason(status, "ScalingActive") == "False/MetricUnavailable"
    assert reason(status, "Suspended") == "Unknown/Pending"
    assert status["phase"] == "Degraded"


def test_a_real_change_of_replicas_is_told() -> None:
    observed, _ = settled(observe(signal=QueueSignals(waiting=3)), replicas=0)
    status = status_of(observed, scaled=Scale(current=0, replicas=3))
    assert status["scaling"] == {
        "lastScaleTime": NOW,
        "lastDecision": {"from": 0, "to": 3, "reason": "Backlog", "message": "3 jobs / 1 per worker = 3"},
    }


def test_problems_of_the_deployment_and_of_its_scale() -> None:
    status = status_of(observe(), workload_problem="quota", workload_reason=Reason.INVALID_SPEC)
    assert reason(status, "Ready") == "False/InvalidSpec"
    observed, _ = settled(observe(), replicas=0)
    assert reason(status_of(observed, scale_problem="no right"), "ScalingActive") == "False/FailedUpdateScale"


def test_somebody_elses_deployment_is_not_counted_as_ours() -> None:
    theirs = deployment(observe(), replicas=6, ready=6)
    theirs["metadata"]["ownerReferences"] = []
    status = status_of(observe(deployment=theirs))
    assert (status["replicas"], status["readyReplicas"]) == (0, 0)
    assert reason(status, "Ready") == "False/NameConflict"
    assert reason(status, "WorkersAvailable") == "Unknown/Pending"


def pod(**container: Any) -> dict[str, Any]:
    status = {"name": "worker", "image": "app:3", "ready": False, "restartCount": 0, **container}
    return {"metadata": {"name": "jq-email-1", "creationTimestamp": "t"}, "status": {"containerStatuses": [status]}}


def waiting(why: str) -> dict[str, Any]:
    return {"waiting": {"reason": why, "message": "more"}}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"state": waiting("ContainerCreating")}, Reason.STARTING),
        ({"state": waiting("ErrImagePull")}, Reason.IMAGE_PULL_FAILED),
        ({"state": waiting("CreateContainerConfigError")}, Reason.CONTAINER_CONFIG_FAILED),
        ({"state": waiting("CrashLoopBackOff"), "restartCount": 2}, Reason.CRASH_LOOPING),
        ({"state": {"terminated": {"exitCode": 1}}, "restartCount": 1}, Reason.CRASH_LOOPING),
        ({"state": {"terminated": {"exitCode": 0}}, "restartCount": 1}, Reason.STARTING),
        ({"state": {"running": {}}}, Reason.STARTING),
    ],
)
def test_why_there_is_no_worker(container: dict[str, Any], expected: Reason) -> None:
    observed, _ = settled(observe(signal=QueueSignals(waiting=1)), replicas=1)
    status = status_of(replace(observed, pods=[pod(**container)]))
    assert reason(status, "WorkersAvailable") == f"False/{expected}"
    assert reason(status, "Ready") == ("True/Reconciled" if expected is Reason.STARTING else "False/WorkloadFailed")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('pods "x" is forbidden: exceeded quota: none', Reason.QUOTA_EXCEEDED),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', Reason.ADMISSION_DENIED),
        ("something else", Reason.CREATION_FAILED),
    ],
)
def test_why_no_pod_is_made(message: str, expected: Reason) -> None:
    observed, _ = settled(observe(signal=QueueSignals(waiting=1)), replicas=1)
    assert observed.deployment is not None
    failure = {"type": "ReplicaFailure", "status": "True", "message": message}
    made = {**observed.deployment, "status": {"conditions": [failure]}}
    status = status_of(replace(observed, deployment=made))
    assert reason(status, "WorkersAvailable") == f"False/{expected}"


def test_some_workers_are_enough_to_be_available() -> None:
    observed, _ = settled(observe(signal=QueueSignals(waiting=3)), replicas=3, ready=1)
    assert reason(status_of(observed), "WorkersAvailable") == "True/Available"


@pytest.mark.parametrize(
    ("suspend", "is_paused", "said", "expected"),
    [
        (False, False, None, "False/NotSuspended"),
        (True, False, None, "True/SuspendedBySpec"),
        (False, True, None, "True/PausedInRedis"),
        (False, True, "SuspendedBySpec", "True/SuspendedBySpec"),
        (False, False, "SuspendedBySpec", "False/NotSuspended"),
    ],
)
def test_suspended(suspend: bool, is_paused: bool, said: str | None, expected: str) -> None:
    known = {"conditions": [{"type": "Suspended", "reason": said}]} if said else {}
    observed = observe(spec={"suspend": suspend}, signal=QueueSignals(is_paused=is_paused), status=known)
    assert reason(status_of(observed), "Suspended") == expected


def test_who_paused_is_not_forgotten_while_redis_is_away() -> None:
    known = {"conditions": [{"type": "Suspended", "reason": "SuspendedBySpec"}]}
    assert reason(status_of(observe(signal=Unknown("away"), status=known)), "Suspended") == "True/SuspendedBySpec"


def test_what_was_set_in_redis_is_remembered_once_it_is_written() -> None:
    observed = observe(
        spec={"globalConcurrency": 2}, signal=QueueSignals(global_concurrency=1), status={"globalConcurrency": 1}
    )
    assert status_of(observed)["globalConcurrency"] == 1
    assert status_of(observed, is_concurrency_set=True)["globalConcurrency"] == 2
    removed = replace(observed, spec=observe().spec)
    assert status_of(removed)["globalConcurrency"] == 1
    assert "globalConcurrency" not in status_of(removed, is_concurrency_set=True)
    terminating = replace(removed, is_terminating=True)
    assert status_of(terminating)["globalConcurrency"] == 1


def test_series_that_cannot_be_carried_on_are_named() -> None:
    observed = observe(signal=QueueSignals())
    assert reason(status_of(observed), "SchedulersAdvancing") == "True/Advancing"
    stuck = {f"s{number}": "repeat.pattern: is no cron" for number in range(100)}
    status = status_of(replace(observed, stuck_schedulers=stuck))
    assert reason(status, "SchedulersAdvancing") == "False/SeriesStuck"
    assert reason(status, "Ready") == reason(status_of(observed), "Ready")
    (condition,) = (each for each in status["conditions"] if each["type"] == "SchedulersAdvancing")
    assert condition["message"].startswith("s0: repeat.pattern: is no cron; s1: ")
    assert len(condition["message"]) <= 1000
    assert reason(status_of(observe(signal=Unknown("away"))), "SchedulersAdvancing") == "Unknown/Pending"
