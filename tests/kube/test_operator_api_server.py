"""An API server that has no JobQueues yet, goes away, or loses the resource. A control plane of these tests' own."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support import cluster_fixtures, kube_api, operator_process
from support.cluster import Cluster, control_plane
from support.job_queues import JobQueues, add_jobs, job_queue
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess
from support.waiting import wait_until
from toril import errors, kube

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/jobqueues.toril.dev"


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Not the other tests': these break it. A cluster that is not ours is left whole."""
    yield from cluster_fixtures.session_cluster(request, control_plane)


@pytest.fixture
def running(cluster: Cluster) -> Iterator[OperatorProcess]:
    if cluster.plane is None:
        pytest.skip("not run: this would break the cluster that TORIL_TEST_KUBECONFIG names")
    with operator_process.start(cluster, is_ready=False) as operator:
        yield operator


async def test_a_page_that_has_expired_is_no_sign_that_the_resource_is_gone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long list meets the compaction of etcd; the same list, begun anew, is whole."""
    if cluster.plane is None:
        pytest.skip("not run: this would break the cluster that TORIL_TEST_KUBECONFIG names")
    monkeypatch.setattr(kube, "PAGE_SIZE", 2)
    roles = kube.Resource("rbac.authorization.k8s.io/v1", "clusterroles")
    client = await kube.KubeClient.connect(str(cluster.kubeconfig))
    try:
        listed = client.list(roles)
        seen = [await anext(listed)]
        await asyncio.to_thread(forget_the_past, cluster)
        with pytest.raises(errors.KubeUnavailableError, match="continue") as expired:
            seen += [item async for item in listed]
        assert expired.value.status == 410
        monkeypatch.setattr(kube, "PAGE_SIZE", 500)
        assert len([item async for item in client.list(roles)]) > len(seen)
    finally:
        await client.close()


def forget_the_past(cluster: Cluster) -> None:
    """Have etcd compact its history, and the API server drop what it remembers of that."""
    assert cluster.plane is not None
    cluster.create_namespace()
    end = base64.b64encode(b"\0").decode()
    found = ask_etcd(cluster, "kv/range", {"key": end, "range_end": end, "count_only": True})
    ask_etcd(cluster, "kv/compaction", {"revision": found["header"]["revision"], "physical": True})
    cluster.processes.kill("kube-apiserver")
    cluster.processes.restart("kube-apiserver")
    wait_until(lambda: cluster.plane and cluster.plane.is_answered("/readyz"), "the API server", timeout_seconds=60)


def ask_etcd(cluster: Cluster, command: str, question: dict[str, Any]) -> dict[str, Any]:
    assert cluster.plane is not None
    request = urllib.request.Request(f"{cluster.plane.etcd}/v3/{command}", json.dumps(question).encode())
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer: dict[str, Any] = json.loads(reply.read())
    return answer


@pytest.mark.requirement("T75")
def test_sigterm_while_there_is_nothing_to_serve(running: OperatorProcess) -> None:
    assert running.http("/readyz")[0] == 503
    assert running.stop() == 0


@pytest.mark.requirement("T52", "T53", "T61")
def test_from_no_resource_over_outages_to_a_new_one(cluster: Cluster, running: OperatorProcess, redis_url: str) -> None:
    assert cluster.plane is not None
    assert running.http("/readyz") == (503, "the resources of toril.dev are not there yet\n")
    kube_api.install_crds(cluster)
    wait_until(lambda: running.http("/readyz")[0] == 200, "the operator to find the resource", timeout_seconds=60)
    queues = JobQueues(KubeApi(cluster), cluster.create_namespace())
    queues.create(job_queue("email", redis_url))
    queues.wait_reason("email", "Ready", "True/Reconciled")

    # Gone, while jobs come: nothing is lost, and what was decided meanwhile is done at once on its return.
    queues.api.close()
    cluster.processes.kill("kube-apiserver")
    add_jobs(redis_url, "email", 10)
    wait_until(lambda: "no answer" in running.log, "a call to be given up", timeout_seconds=60)
    assert running.http("/livez")[0] == 200
    cluster.processes.restart("kube-apiserver")
    wait_until(lambda: cluster.plane and cluster.plane.is_answered("/readyz"), "the API server", timeout_seconds=60)
    print(f"2 replicas {queues.wait_replicas('email', 2):.1f} s after the API server was ready again")

    # Hangs: every call has a deadline.
    cluster.processes.signal("kube-apiserver", signal.SIGSTOP)
    add_jobs(redis_url, "email", 10)
    lines = running.log.count("no answer")
    wait_until(lambda: running.log.count("no answer") > lines, "a call to be given up", timeout_seconds=60)
    assert running.http("/livez")[0] == 200
    cluster.processes.signal("kube-apiserver", signal.SIGCONT)
    queues.api.close()
    wait_until(lambda: cluster.plane and cluster.plane.is_answered("/readyz"), "the API server", timeout_seconds=60)
    queues.wait_replicas("email", 4)

    # The resource goes, and with it every JobQueue; a new one of the same name is served again.
    queues.api.delete(CRD)
    wait_until(lambda: queues.api.get_or_none(CRD) is None, "the resource to go", timeout_seconds=60)
    kube_api.install_crds(cluster)
    queues.create(job_queue("image", redis_url))
    queues.wait_reason("image", "Ready", "True/Reconciled")
    queues.api.close()
    restarts = sum(
        float(line.rpartition(" ")[2])
        for line in running.http("/metrics")[1].splitlines()
        if line.startswith("toril_kopf_restarts_total")
    )
    print(f"kopf was started anew {restarts:.0f} times")
