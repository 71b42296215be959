"""A namespace with JobQueues and CronJobSchedules in it: create them, look at what became of them, and play the kubelet
where no node is."""

from __future__ import annotations

import time
from typing import Any

from support.kube_api import KubeApi
from support.waiting import wait_until
from toril.engine.keys import QueueKeys
from toril.engine.producer import SyncProducer
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.sync_connection import SyncConnection
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

LIMIT_SECONDS = 40.0
"""How long the operator may take for what it is to do soon: less than the pause between polls where those are rare."""
FAST = {
    "pollingIntervalSeconds": 1,
    "cooldownSeconds": 1,
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
}
"""Scaling that a test need not wait long for."""


def job_queue(name: str, url: str, **spec: Any) -> dict[str, Any]:
    """A small JobQueue; `spec` replaces whole fields."""
    return {
        "apiVersion": "toril.dev/v1alpha1",
        "kind": "JobQueue",
        "metadata": {"name": name},
        "spec": {
            "redis": {"url": url},
            "worker": {"concurrency": 5, "processor": {"python": {"module": "jobs"}}},
            "scaling": FAST,
            **spec,
        },
    }


class Objects:
    """Those of one kind in one namespace."""

    plural: str

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def path(self, name: str = "", subresource: str = "") -> str:
        parts = [f"/apis/toril.dev/v1alpha1/namespaces/{self.namespace}/{self.plural}", name, subresource]
        return "/".join(part for part in parts if part)

    def get(self, name: str) -> dict[str, Any]:
        return self.api.get(self.path(name))

    def change(self, name: str, **spec: Any) -> None:
        """Change whole fields of `spec`."""
        self.api.patch(self.path(name), {"spec": spec})

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(name).get("status") or {}
        return found

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        conditions = self.status(name).get("conditions") or ()
        return next((entry for entry in conditions if entry["type"] == kind), {})

    def reason(self, name: str, kind: str) -> str:
        """`True/Connected`: the condition's status and reason."""
        found = self.condition(name, kind)
        return f"{found.get('status')}/{found.get('reason')}"

    def wait_reason(self, name: str, kind: str, wanted: str) -> None:
        """Wait until the condition says so of the object as it is now."""

        def is_so() -> bool:
            found = self.get(name)
            generation = found["metadata"]["generation"]
            conditions = (found.get("status") or {}).get("conditions") or ()
            return any(
                entry["type"] == kind
                and entry.get("observedGeneration") == generation
                and f"{entry.get('status')}/{entry.get('reason')}" == wanted
                for entry in conditions
            )

        try:
            wait_until(is_so, f"{name}: {kind} {wanted}", timeout_seconds=60)
        except AssertionError as problem:
            problem.add_note(str(self.get(name).get("status")))
            raise


class JobQueues(Objects):
    plural = "jobqueues"

    def deployment_path(self, name: str) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/jq-{name}"

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        return self.api.create(self.path() + "?fieldValidation=Strict", manifest)

    def deployment(self, name: str) -> dict[str, Any] | None:
        return self.api.get_or_none(self.deployment_path(name))

    def replicas(self, name: str) -> int | None:
        """What the Deployment asks for; None when there is none."""
        found = self.deployment(name)
        return None if found is None else int(found["spec"]["replicas"])

    def wait_replicas(self, name: str, wanted: int) -> float:
        """Wait for the Deployment to ask for so many; how long it took, seconds."""
        began = time.monotonic()
        wait_until(lambda: self.replicas(name) == wanted, f"{name}: {wanted} replicas", timeout_seconds=LIMIT_SECONDS)
        return time.monotonic() - began

    def pods(self, name: str) -> list[dict[str, Any]]:
        selector = f"labelSelector=toril.dev/jobqueue%3D{name}"
        return self.api.items(f"/api/v1/namespaces/{self.namespace}/pods?{selector}")

    def play_kubelet(self, name: str, container: dict[str, Any], *, is_ready: bool = False) -> None:
        """Write into every pod's status what a node's kubelet would, since there is no node.

        Args:
            container: the container's status, such as `{"state": {"waiting": {"reason": "ImagePullBackOff"}}}`.
        """
        for pod in self.pods(name):
            status = {
                "phase": "Running" if is_ready else "Pending",
                "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
                "containerStatuses": [
                    {
                        "name": "worker",
                        "image": pod["spec"]["containers"][0]["image"],
                        "imageID": "",
                        "ready": is_ready,
                        "restartCount": 0,
                        **container,
                    }
                ],
            }
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
            # A pod may go at any moment, as in a roll-out.
            code, answer = self.api.call("PATCH", path, {"status": status}, "application/merge-patch+json")
            assert code in (200, 404), answer

    def make_ready(self, name: str) -> None:
        """Every pod runs and is ready, as the kubelet would say."""
        self.play_kubelet(name, {"started": True, "state": {"running": {}}}, is_ready=True)


class CronJobSchedules(Objects):
    plural = "cronjobschedules"

    def __init__(self, queues: JobQueues) -> None:
        super().__init__(queues.api, queues.namespace)

    def manifest(self, name: str, queue: str = "email", **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "toril.dev/v1alpha1",
            "kind": "CronJobSchedule",
            "metadata": {"name": name},
            "spec": {"queueRef": {"name": queue}, **spec},
        }

    def create(self, name: str, queue: str = "email", **spec: Any) -> dict[str, Any]:
        return self.api.create(self.path() + "?fieldValidation=Strict", self.manifest(name, queue, **spec))

    def delete(self, name: str) -> None:
        self.api.delete(self.path(name))

    def is_gone(self, name: str) -> bool:
        return self.api.get_or_none(self.path(name)) is None


def add_jobs(url: str, queue: str, count: int, **options: Any) -> None:
    """Add jobs in one call, with BullMQ's option names."""
    connection = SyncConnection(RedisSettings.from_url(url))
    try:
        jobs = [NewJob.create("work", None, JobOptions.from_bullmq(options)) for _ in range(count)]
        SyncProducer(connection, QueueKeys(queue)).add(jobs)
    finally:
        connection.close()
