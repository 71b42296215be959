"""The number of workers follows the queue. There is no node: pods stay Pending unless a test plays the kubelet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from support.cluster import Cluster
from support.engine import EngineQueue, open_queue
from support.job_queues import FAST, JobQueues, add_jobs, job_queue
from support.operator_process import OperatorProcess
from support.waiting import stays, wait_until
from toril.engine.worker import Finish

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
async def engine(redis_url: str) -> AsyncIterator[EngineQueue]:
    """The queue `email`, as a producer and a worker see it."""
    async with open_queue(redis_url, "email") as opened:
        yield opened


def create(queues: JobQueues, redis_url: str, **spec: object) -> None:
    """The JobQueue `email`, with its Deployment at 0."""
    queues.create(job_queue("email", redis_url, **spec))
    queues.wait_reason("email", "Ready", "True/Reconciled")
    assert queues.replicas("email") == 0


def test_from_zero_to_as_many_as_the_jobs_need_and_back(queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url)
    add_jobs(redis_url, "email", 12)
    print(f"0 → 3 replicas {queues.wait_replicas('email', 3):.3f} s after the add of 12 jobs, 5 per worker")
    wait_until(lambda: scalings(queues) == ["ScaledUp"], "the event ScaledUp")
    status = wait_until(lambda: with_counts(queues, waiting=10), "the status to show 12 jobs as 10")
    assert status is not None
    assert status["desiredReplicas"] == 3
    assert status["scaling"]["lastDecision"]["reason"] == "Backlog"
    assert "12 jobs / 5 per worker = 3" in status["scaling"]["lastDecision"]["message"]
    drain(redis_url)
    queues.wait_replicas("email", 0)
    wait_until(lambda: queues.status("email")["scaling"]["lastDecision"]["to"] == 0, "the status to tell of it")
    wait_until(lambda: scalings(queues) == ["ScaledUp", "ScaledDown"], "the event ScaledDown")


def wait_jobs(operator: OperatorProcess, queues: JobQueues, state: str, count: int) -> None:
    """Wait until the operator has seen so many jobs in a state."""

    def is_seen() -> bool:
        return operator.metric("toril_jobs", namespace=queues.namespace, jobqueue="email", state=state) == count

    wait_until(is_seen, f"{count} {state} jobs to be seen")


def with_counts(queues: JobQueues, **counts: int) -> dict[str, Any] | None:
    status = queues.status("email")
    return status if counts.items() <= (status.get("counts") or {}).items() else None


def scalings(queues: JobQueues) -> list[str]:
    """The reasons of the events that tell of another number of workers, in order."""
    path = f"/apis/events.k8s.io/v1/namespaces/{queues.namespace}/events"
    found = [event for event in queues.api.items(path) if event["regarding"]["kind"] == "JobQueue"]
    reasons = [event["reason"] for event in sorted(found, key=lambda event: str(event["eventTime"]))]
    return [reason for reason in reasons if reason.startswith("Scaled")]


def drain(redis_url: str) -> None:
    """Everything that waits is gone, as if worked off by somebody."""
    with redis.Redis.from_url(redis_url) as client:
        client.delete("bull:email:wait")


def test_first_worker_is_asked_for_at_once_though_polls_are_rare(queues: JobQueues, redis_url: str) -> None:
    scaling = {**FAST, "pollingIntervalSeconds": 60}
    create(queues, redis_url, scaling=scaling)
    add_jobs(redis_url, "email", 1)
    took = queues.wait_replicas("email", 1)
    print(f"0 → 1 replica {took:.3f} s after the add, polls every 60 s")


def test_a_due_delayed_job_gets_a_worker_at_its_time(queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url, scaling={**FAST, "pollingIntervalSeconds": 60})
    added = time.monotonic()
    add_jobs(redis_url, "email", 1, delay=3000)
    queues.wait_replicas("email", 1)
    assert 2.5 < time.monotonic() - added < 45, "neither at once nor by a poll"


def test_bounds(queues: JobQueues, redis_url: str) -> None:
    queues.create(job_queue("email", redis_url, scaling={**FAST, "minReplicas": 1, "maxReplicas": 4}))
    queues.wait_replicas("email", 1)
    add_jobs(redis_url, "email", 100)
    queues.wait_replicas("email", 4)


async def test_a_running_job_keeps_its_worker(
    operator: OperatorProcess, queues: JobQueues, redis_url: str, engine: EngineQueue
) -> None:
    create(queues, redis_url)
    await engine.add()
    queues.wait_replicas("email", 1)
    job = await engine.take_one()
    wait_jobs(operator, queues, "active", 1)
    # Several times the cooldown and the window.
    stays(lambda: queues.replicas("email") == 1, "the running job's worker stays", seconds=3)
    await engine.active.finish_and_take([Finish.completed(job, "null")], 0, engine.token())
    queues.wait_replicas("email", 0)


@pytest.mark.requirement("T63")
def test_a_number_set_by_hand_on_the_deployment_is_corrected(
    cluster: Cluster, queues: JobQueues, redis_url: str
) -> None:
    create(queues, redis_url)
    cluster.kubectl("scale", "deployment/jq-email", "--replicas=7", "-n", queues.namespace)
    queues.wait_replicas("email", 0)
    add_jobs(redis_url, "email", 5)
    queues.wait_replicas("email", 1)
    cluster.kubectl("scale", "deployment/jq-email", "--replicas=0", "-n", queues.namespace)
    queues.wait_replicas("email", 1)


def test_manual_mode_follows_kubectl_scale(cluster: Cluster, queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url, scaling={**FAST, "mode": "Manual"})
    queues.wait_reason("email", "ScalingActive", "False/Manual")
    cluster.kubectl("scale", "jq/email", "--replicas=3", "-n", queues.namespace)
    queues.wait_replicas("email", 3)
    scale = wait_until(
        lambda: found if (found := queues.api.get(queues.path("email", "scale")))["status"]["replicas"] == 3 else None,
        "the scale subresource to tell 3",
    )
    assert scale is not None
    assert scale["status"]["selector"] == "app.kubernetes.io/managed-by=toril-operator,toril.dev/jobqueue=email"
    assert len(queues.pods("email")) == 3
    queues.api.patch(queues.path("email"), {"spec": {"scaling": {"mode": "Auto"}}})
    queues.wait_replicas("email", 0)


async def test_suspending_pauses_the_queue_and_resuming_lifts_it(
    operator: OperatorProcess, queues: JobQueues, redis_url: str, engine: EngineQueue
) -> None:
    create(queues, redis_url)
    queues.api.patch(queues.path("email"), {"spec": {"suspend": True}})
    queues.wait_reason("email", "Suspended", "True/SuspendedBySpec")
    wait_until(lambda: engine.raw.hexists("bull:email:meta", "paused"), "meta.paused")
    await engine.add()
    wait_jobs(operator, queues, "waiting", 1)
    assert queues.replicas("email") == 0
    wait_until(lambda: queues.status("email")["phase"] == "Suspended", "the phase Suspended")
    queues.api.patch(queues.path("email"), {"spec": {"suspend": False}})
    queues.wait_reason("email", "Suspended", "False/NotSuspended")
    assert not engine.raw.hexists("bull:email:meta", "paused")
    queues.wait_replicas("email", 1)


async def test_a_queue_paused_by_a_peer_is_left_paused(
    operator: OperatorProcess, queues: JobQueues, redis_url: str, engine: EngineQueue
) -> None:
    create(queues, redis_url)
    await engine.producer.pause()
    queues.wait_reason("email", "Suspended", "True/PausedInRedis")
    await engine.add()
    wait_jobs(operator, queues, "waiting", 1)
    assert queues.replicas("email") == 0
    assert engine.raw.hexists("bull:email:meta", "paused")
    await engine.producer.resume()
    queues.wait_reason("email", "Suspended", "False/NotSuspended")
    queues.wait_replicas("email", 1)


async def test_jobs_of_a_vanished_worker_are_given_back_although_no_worker_is_ready(
    queues: JobQueues, redis_url: str, engine: EngineQueue
) -> None:
    worker = {"processor": {"python": {"module": "jobs"}}, "bullmq": {"stalledInterval": 500}}
    create(queues, redis_url, worker=worker)
    await engine.add()
    (job,) = (await engine.worker("gone", lock_ms=100).take(1, engine.token())).jobs
    wait_until(lambda: engine.places() == {"wait": [job.id]}, "the job to wait again")


async def test_workers_that_hold_jobs_are_not_scaled_in(
    operator: OperatorProcess, queues: JobQueues, redis_url: str, engine: EngineQueue
) -> None:
    """Three pods hold a job each, and one job would be enough for one worker."""
    create(queues, redis_url)
    add_jobs(redis_url, "email", 15)
    queues.wait_replicas("email", 3)
    wait_until(lambda: len(queues.pods("email")) == 3, "3 pods")
    names = [pod["metadata"]["name"] for pod in queues.pods("email")]
    for name in names:
        await engine.worker(name).take(1, engine.token())
    drain(redis_url)
    wait_jobs(operator, queues, "active", 3)
    wait_jobs(operator, queues, "waiting", 0)
    stays(lambda: queues.replicas("email") == 3, "all busy workers stay", seconds=3)


def test_metrics_tell_of_the_queue(operator: OperatorProcess, queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url, queueName="e mail")
    add_jobs(redis_url, "e mail", 3)
    labels = {"namespace": queues.namespace, "jobqueue": "email"}
    wait_until(lambda: operator.metric("toril_jobs", **labels, queue="e mail", state="waiting") == 3, "3 waiting jobs")
    wait_until(lambda: operator.metric("toril_replicas", **labels, kind="desired") == 1, "1 replica")
    wait_until(lambda: operator.metric("toril_redis_up", **labels) == 1, "Redis to be up")
    assert operator.metric("toril_build_info") == 1
    queues.api.delete(queues.path("email"))
    wait_until(lambda: operator.metric("toril_redis_up", **labels) is None, "its metrics to be gone")
