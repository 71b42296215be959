"""An API server that has no JobQueues yet, goes away, or loses the resource. A control plane of these tests' own."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from support import cluster_fixtures, kube_api, operator_process
from support.cluster import Cluster, control_plane
from support.job_queues import JobQueues, add_jobs, job_queue
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess
from support.waiting import wait_until

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
