"""The Deployment that a JobQueue gets, what repairs it, and what the JobQueue says when it cannot have one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from support.cluster import Cluster
from support.job_queues import FAST, JobQueues, add_jobs, job_queue
from support.kube_api import KubeApi
from support.operator_process import WORKER_IMAGE, OperatorProcess
from support.waiting import stays, wait_until

pytestmark = pytest.mark.usefixtures("operator")

CONDITIONS = {"Ready", "RedisReachable", "WorkersAvailable", "ScalingActive", "Suspended", "SchedulersAdvancing"}


def create(queues: JobQueues, url: str, **spec: Any) -> dict[str, Any]:
    """The JobQueue `email` with its Deployment; returns that."""
    queues.create(job_queue("email", url, **spec))
    queues.wait_reason("email", "Ready", "True/Reconciled")
    return deployment(queues)


def deployment(queues: JobQueues, name: str = "email") -> dict[str, Any]:
    found = queues.deployment(name)
    assert found is not None
    return found


def container(queues: JobQueues) -> dict[str, Any]:
    found: dict[str, Any] = deployment(queues)["spec"]["template"]["spec"]["containers"][0]
    return found


def managers(manifest: dict[str, Any], path: str) -> set[str]:
    """Who owns a field of `spec`."""
    return {
        entry["manager"]
        for entry in manifest["metadata"]["managedFields"]
        if path in entry["fieldsV1"].get("f:spec", {})
    }


def test_the_deployment_and_what_is_said_of_it(queues: JobQueues, redis_url: str) -> None:
    made = create(queues, redis_url)
    owner = queues.get("email")["metadata"]
    assert made["spec"]["replicas"] == 0
    assert made["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "toril.dev/v1alpha1",
            "kind": "JobQueue",
            "name": "email",
            "uid": owner["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == WORKER_IMAGE
    assert pod["terminationGracePeriodSeconds"] == 615
    environment = {entry["name"]: entry for entry in pod["containers"][0]["env"]}
    assert environment["TORIL_QUEUE"]["value"] == "email"
    assert environment["TORIL_REDIS_URL"]["value"] == redis_url
    assert environment["TORIL_POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert "finalizers" not in owner
    status = queues.status("email")
    assert {entry["type"] for entry in status["conditions"]} == CONDITIONS
    assert {entry["observedGeneration"] for entry in status["conditions"]} == {1}
    assert status["observedGeneration"] == 1
    queues.wait_reason("email", "RedisReachable", "True/Connected")
    queues.wait_reason("email", "WorkersAvailable", "True/ScaledToZero")
    queues.wait_reason("email", "ScalingActive", "True/SignalFresh")
    queues.wait_reason("email", "Suspended", "False/NotSuspended")


@pytest.mark.requirement("T79")
def test_pods_fit_the_restricted_security_standard(cluster: Cluster, api: KubeApi, redis_url: str) -> None:
    name = cluster.create_namespace("restricted", {"pod-security.kubernetes.io/enforce": "restricted"})
    queues = JobQueues(api, name)
    create(queues, redis_url)
    add_jobs(redis_url, "email", 1)
    wait_until(lambda: len(queues.pods("email")) == 1, "a pod in the restricted namespace")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.requirement("T63", "T113")
def test_replicas_are_the_scalers_and_never_the_manifests(queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url)
    add_jobs(redis_url, "email", 20)
    queues.wait_replicas("email", 4)
    assert managers(deployment(queues), "f:replicas") == {"toril-operator-scaler"}
    queues.api.patch(queues.path("email"), {"spec": {"worker": {"image": "registry.invalid/app:2"}}})
    wait_until(lambda: container(queues)["image"] == "registry.invalid/app:2", "the new image")
    assert queues.replicas("email") == 4
    assert managers(deployment(queues), "f:replicas") == {"toril-operator-scaler"}


@pytest.mark.requirement("T109")
def test_a_changed_spec_rolls_the_workers(queues: JobQueues, redis_url: str) -> None:
    before = create(queues, redis_url)
    worker = {"concurrency": 3, "env": [{"name": "MODE", "value": "fast"}], "resources": {"requests": {"cpu": "500m"}}}
    queues.api.patch(queues.path("email"), {"spec": {"worker": worker}})
    queues.wait_reason("email", "Ready", "True/Reconciled")
    wait_until(lambda: {"name": "MODE", "value": "fast"} in container(queues)["env"], "the new variable")
    assert {"name": "TORIL_CONCURRENCY", "value": "3"} in container(queues)["env"]
    after = deployment(queues)
    assert after["spec"]["template"] != before["spec"]["template"]
    version = after["metadata"]["resourceVersion"]
    # A quantity that the server writes in its own way must not look like somebody's change.
    queues.api.patch(queues.path("email"), {"spec": {"worker": {"resources": {"requests": {"cpu": "1000m"}}}}})
    wait_until(lambda: container(queues)["resources"]["requests"]["cpu"] == "1", "1 CPU")
    version = deployment(queues)["metadata"]["generation"]
    stays(lambda: deployment(queues)["metadata"]["generation"] == version, "nothing is written again", seconds=2)


@pytest.mark.requirement("T63")
def test_changes_by_others_are_undone_and_their_additions_kept(queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url)
    change = {"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "evil"}]}}}}
    queues.api.patch(queues.deployment_path("email"), change)
    wait_until(lambda: container(queues)["image"] == WORKER_IMAGE, "the image to be ours again")
    queues.api.patch(queues.deployment_path("email"), {"metadata": {"labels": {"toril.dev/queue": "x", "theirs": "y"}}})
    wait_until(lambda: deployment(queues)["metadata"]["labels"]["toril.dev/queue"] == "email", "our label to be back")
    assert deployment(queues)["metadata"]["labels"]["theirs"] == "y"


@pytest.mark.requirement("T63")
def test_a_deleted_deployment_comes_back_as_large_as_it_was(queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url)
    add_jobs(redis_url, "email", 10)
    queues.wait_replicas("email", 2)
    uid = deployment(queues)["metadata"]["uid"]
    queues.api.delete(queues.deployment_path("email"))

    def is_back() -> bool:
        found = queues.deployment("email")
        return found is not None and found["metadata"]["uid"] != uid and found["spec"]["replicas"] == 2

    wait_until(is_back, "a new Deployment with 2 replicas")


@pytest.mark.requirement("T64")
def test_somebody_elses_deployment_is_left_alone(queues: JobQueues, redis_url: str) -> None:
    labels = {"app": "theirs"}
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "jq-email"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b"}]}},
        },
    }
    path = queues.deployment_path("email")
    queues.api.create(path.removesuffix("/jq-email"), theirs)
    version = deployment(queues)["metadata"]["generation"]
    queues.create(job_queue("email", redis_url))
    queues.wait_reason("email", "Ready", "False/NameConflict")
    assert "jq-email" in queues.condition("email", "Ready")["message"]
    add_jobs(redis_url, "email", 1)
    stays(lambda: deployment(queues)["metadata"]["generation"] == version, "their Deployment is untouched", seconds=2)
    queues.api.delete(path)
    # Not `Ready`: without a node, the pod that comes now cannot run, which is soon told.
    queues.wait_replicas("email", 1)


def test_two_job_queues_on_one_queue(queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url)
    # Creation times have whole seconds.
    first = queues.get("email")["metadata"]["creationTimestamp"]

    rival = job_queue("rival", redis_url, queueName="email")

    def is_later() -> bool:
        return bool(queues.api.create(queues.path() + "?dryRun=All", rival)["metadata"]["creationTimestamp"] > first)

    wait_until(is_later, "a second to be over")
    queues.create(rival)
    queues.wait_reason("rival", "Ready", "False/DuplicateTarget")
    assert "email" in queues.condition("rival", "Ready")["message"]
    assert queues.deployment("rival") is None
    add_jobs(redis_url, "email", 1)
    queues.wait_replicas("email", 1)
    queues.wait_reason("email", "RedisReachable", "True/Connected")
    queues.api.delete(queues.path("email"))
    queues.wait_reason("rival", "RedisReachable", "True/Connected")
    queues.wait_replicas("rival", 1)


def test_observing_only(operator: OperatorProcess, queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url)
    queues.api.patch(queues.path("email"), {"spec": {"worker": {"mode": "None"}}})
    wait_until(lambda: queues.deployment("email") is None, "the Deployment to go")
    queues.wait_reason("email", "WorkersAvailable", "Unknown/NotManaged")
    queues.wait_reason("email", "Ready", "True/Reconciled")
    add_jobs(redis_url, "email", 3)
    labels = {"namespace": queues.namespace, "jobqueue": "email"}
    wait_until(lambda: operator.metric("toril_jobs", **labels, state="waiting") == 3, "the jobs to be counted")
    assert queues.deployment("email") is None


def test_deletion_takes_the_deployment_and_leaves_the_jobs(queues: JobQueues, redis_url: str) -> None:
    create(queues, redis_url)
    add_jobs(redis_url, "email", 1)
    queues.wait_replicas("email", 1)
    queues.api.delete(queues.path("email"))
    assert queues.api.get_or_none(queues.path("email")) is None, "nothing holds it back"
    wait_until(lambda: queues.deployment("email") is None, "the Deployment to be collected", timeout_seconds=60)
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("bull:email:wait") == 1


@pytest.mark.requirement("T77")
def test_a_field_that_only_we_refuse(queues: JobQueues, redis_url: str) -> None:
    """A zero-width space: the schema's pattern lets it through, as it would a field whose rule came later."""
    queues.create(job_queue("email", redis_url, queueName="a\u200bb"))
    queues.wait_reason("email", "Ready", "False/InvalidSpec")
    assert queues.condition("email", "Ready")["message"].startswith("spec.queueName: ")
    assert queues.deployment("email") is None


@pytest.mark.requirement("T77")
def test_a_pod_that_the_server_refuses(queues: JobQueues, redis_url: str) -> None:
    worker = {
        "processor": {"python": {"module": "jobs"}},
        "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
    }
    queues.create(job_queue("email", redis_url, worker=worker))
    queues.wait_reason("email", "Ready", "False/InvalidSpec")
    assert "must be less than or equal to cpu limit" in queues.condition("email", "Ready")["message"]
    queues.api.patch(queues.path("email"), {"spec": {"worker": {"resources": {"limits": {"cpu": "3"}}}}})
    queues.wait_reason("email", "Ready", "True/Reconciled")


@pytest.fixture
def with_worker(queues: JobQueues, redis_url: str) -> Iterator[JobQueues]:
    """One job waits, one pod exists and is Pending."""
    create(queues, redis_url)
    add_jobs(redis_url, "email", 1)
    wait_until(lambda: len(queues.pods("email")) == 1, "a pod")
    yield queues


@pytest.mark.requirement("T91")
def test_pods_that_do_not_come_up_are_named(with_worker: JobQueues) -> None:
    queues = with_worker
    queues.wait_reason("email", "WorkersAvailable", "False/Unschedulable")
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}}
    queues.play_kubelet("email", waiting)
    queues.wait_reason("email", "WorkersAvailable", "False/ImagePullFailed")
    assert WORKER_IMAGE in queues.condition("email", "WorkersAvailable")["message"]
    queues.wait_reason("email", "Ready", "False/WorkloadFailed")
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    looping = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended, "restartCount": 4}
    queues.play_kubelet("email", looping)
    queues.wait_reason("email", "WorkersAvailable", "False/CrashLooping")
    message = queues.condition("email", "WorkersAvailable")["message"]
    assert re.search(r"OOMKilled, exit code 137, 4 restarts", message), message
    queues.make_ready("email")
    queues.wait_reason("email", "WorkersAvailable", "True/Available")
    queues.wait_reason("email", "Ready", "True/Reconciled")


@pytest.mark.requirement("T90")
def test_a_quota_that_is_used_up_is_named(queues: JobQueues, redis_url: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    queues.api.create(f"/api/v1/namespaces/{queues.namespace}/resourcequotas", quota)
    create(queues, redis_url, scaling={**FAST})
    add_jobs(redis_url, "email", 1)
    queues.wait_reason("email", "WorkersAvailable", "False/QuotaExceeded")
    assert queues.replicas("email") == 1


def test_a_quantity_that_is_none(queues: JobQueues, redis_url: str) -> None:
    worker = {"processor": {"python": {"module": "jobs"}}, "resources": {"requests": {"memory": "much"}}}
    queues.create(job_queue("email", redis_url, worker=worker))
    queues.wait_reason("email", "Ready", "False/InvalidSpec")
    assert "quantities must match" in queues.condition("email", "Ready")["message"]
