"""The chart's rules are what the operator does, no more and no less: the API server's own audit log says it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import cluster_fixtures, kube_api, operator_process
from support.cluster import Cluster, control_plane
from support.waiting import wait_still, wait_until
from toril import Queue
from toril.cli import schemas

CHART = str(Path(__file__).parents[2] / "charts" / "toril")
SYSTEM, TEAM = "toril-system", "team"
Right = tuple[str, str, str]
"""(API group, resource with subresource, verb)."""
# The server asks for these by itself, at another request: a patch that creates by server-side apply, and an owner
# reference that blocks its owner's deletion.
ASKED_ALONG: set[Right] = {("apps", "deployments", "create"), ("toril.dev", "jobqueues/finalizers", "update")}


@pytest.fixture(scope="module")
def audited(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A control plane that writes down who asked for what."""
    yield from cluster_fixtures.session_cluster(request, lambda: control_plane(audit=True))


def account_kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig with the rights of the operator's ServiceAccount and no others."""
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", "toril", "-n", SYSTEM).strip()
    config["users"][0]["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def granted(cluster: Cluster) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in cluster.get("clusterrole", "toril")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def requests(cluster: Cluster) -> Iterator[tuple[Right, int]]:
    """What the operator asked of objects, with the answer's code."""
    assert cluster.plane is not None
    assert cluster.plane.audit_log is not None
    # The last line may not be whole yet.
    for line in cluster.plane.audit_log.read_text().split("\n")[:-1]:
        event = json.loads(line)
        target = event.get("objectRef")
        if event["user"]["username"] != f"system:serviceaccount:{SYSTEM}:toril" or target is None:
            continue
        resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
        yield (target.get("apiGroup", ""), resource, event["verb"]), event["responseStatus"]["code"]


def has_rights(cluster: Cluster) -> bool:
    question = ["auth", "can-i", "list", "cronjobschedules.toril.dev", "--all-namespaces"]
    answer = cluster.kubectl(*question, f"--as=system:serviceaccount:{SYSTEM}:toril", check=False)
    return answer.strip() == "yes"


async def test_each_right_is_used_and_no_other_is_missed(audited: Cluster, tmp_path: Path, redis_url: str) -> None:
    cluster = audited
    if cluster.plane is None:
        pytest.skip("not run: a cluster of your own keeps its audit log to itself")
    for namespace in (SYSTEM, TEAM):
        cluster.kubectl("create", "namespace", namespace)
    cluster.helm("install", "toril", CHART, "--namespace", SYSTEM)
    for plural in schemas.PLURALS.values():
        kube_api.wait_served(cluster, f"{plural}.toril.dev")
    wait_until(lambda: has_rights(cluster), "the rights to be in force")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "stringData": {"url": redis_url}}
    spec = {
        "redis": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}},
        "worker": {"processor": {"python": {"module": "jobs"}}},
    }
    queue = {"apiVersion": "toril.dev/v1alpha1", "kind": "JobQueue", "metadata": {"name": "mail"}, "spec": spec}
    schedule = {
        "apiVersion": "toril.dev/v1alpha1",
        "kind": "CronJobSchedule",
        "metadata": {"name": "mail"},
        "spec": {"queueRef": {"name": "mail"}, "schedule": "0 2 * * *"},
    }
    cluster.apply(secret, queue, schedule, namespace=TEAM)

    def deployments() -> list[Any]:
        return list(cluster.get("deployments", "-n", TEAM)["items"])

    with operator_process.start(cluster, kubeconfig=account_kubeconfig(cluster, tmp_path)):
        wait_until(deployments, "the queue's Deployment", timeout_seconds=60, interval_seconds=0.2)
        async with Queue("mail", url=redis_url) as producer:
            await producer.add("send", {})
        wait_until(lambda: deployments()[0]["spec"]["replicas"] > 0, "a worker for the job")
        wait_until(lambda: cluster.get("events.events.k8s.io", "-n", TEAM)["items"], "an event")
        wait_until(lambda: ("", "pods", "list") in {right for right, _ in requests(cluster)}, "a look at the pods")
        cluster.kubectl("patch", "jq", "mail", "-n", TEAM, "--type=merge", "-p", '{"spec":{"worker":{"mode":"None"}}}')
        wait_until(lambda: not deployments(), "the Deployment to go", timeout_seconds=60, interval_seconds=0.2)
        cluster.kubectl("wait", "--for=condition=Ready", "cjs/mail", "-n", TEAM, "--timeout=60s")
        cluster.kubectl("delete", "cjs", "mail", "-n", TEAM, "--timeout=60s")

    # What was asked for last is written down a moment later.
    seen = wait_still(lambda: list(requests(cluster)), "the audit log is written", seconds=2)
    assert [right for right, code in seen if code == 403] == []
    assert {right for right, _ in seen} == granted(cluster) - ASKED_ALONG
