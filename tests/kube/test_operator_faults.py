"""What goes wrong around the operator, and to it. Every test has its own operator, for its own namespace."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import yaml

from support import operator_process
from support.cluster import Cluster
from support.engine import open_queue
from support.job_queues import FAST, JobQueues, add_jobs, job_queue
from support.operator_process import OperatorProcess
from support.redis_server import RedisServer
from support.waiting import stays, wait_still, wait_until

CANARY = "canary-5f1c9e"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis that the test may stop."""
    started = RedisServer()
    yield started
    started.remove()


@pytest.fixture
def own_operator(cluster: Cluster, namespace: str, our_types: None) -> Iterator[OperatorProcess]:
    with operator_process.start(cluster, namespaces=[namespace]) as running:
        yield running


def events(queues: JobQueues, reason: str) -> list[dict[str, Any]]:
    path = f"/apis/events.k8s.io/v1/namespaces/{queues.namespace}/events"
    return [event for event in queues.api.items(path) if event["reason"] == reason]


@pytest.mark.requirement("T73")
def test_redis_away_and_back(own_operator: OperatorProcess, queues: JobQueues, server: RedisServer) -> None:
    queues.create(job_queue("email", server.url, scaling={**FAST, "maxReplicas": 3}))
    add_jobs(server.url, "email", 50)
    queues.wait_replicas("email", 3)
    queues.wait_reason("email", "RedisReachable", "True/Connected")
    server.stop(kill=True)
    queues.wait_reason("email", "RedisReachable", "False/ConnectionRefused")
    queues.wait_reason("email", "Ready", "False/RedisUnreachable")
    queues.wait_reason("email", "ScalingActive", "False/MetricUnavailable")
    # Several times the cooldown and the window.
    stays(lambda: queues.replicas("email") == 3, "unknown is not zero", seconds=4)
    wait_until(lambda: own_operator.metric("toril_redis_up", jobqueue="email") == 0, "the metric to tell")
    assert own_operator.http("/livez")[0] == 200
    wait_until(lambda: events(queues, "RedisUnreachable"), "the event RedisUnreachable")
    assert len(events(queues, "RedisUnreachable")) == 1
    server.start()
    queues.wait_reason("email", "RedisReachable", "True/Connected")
    # It came back empty: now it is known that there is nothing to do.
    queues.wait_replicas("email", 0)
    wait_until(lambda: events(queues, "RedisRecovered"), "the event RedisRecovered")


def test_a_crash_scales_nothing_down(cluster: Cluster, queues: JobQueues, redis_url: str, our_types: None) -> None:
    """Killed while 4 workers run, the work goes meanwhile: after the restart a whole down window passes first."""
    scaling = {**FAST, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 4}}}
    with operator_process.start(cluster, namespaces=[queues.namespace]) as operator:
        queues.create(job_queue("email", redis_url, scaling=scaling))
        add_jobs(redis_url, "email", 20)
        queues.wait_replicas("email", 4)
        for _ in range(2):
            operator.kill()
            operator.start()
            stays(lambda: queues.replicas("email") == 4, "no scale-down by a restart", seconds=2)
        operator.kill()
        redis_flush(redis_url)
        began = time.monotonic()
        operator.start()
        queues.wait_replicas("email", 0)
        assert time.monotonic() - began > 4
        add_jobs(redis_url, "email", 5)
        queues.wait_replicas("email", 1)


def redis_flush(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushdb()


@pytest.mark.requirement("T58", "T113")
@pytest.mark.parametrize("replicas", [0, 7])
def test_a_crash_between_the_two_writes_of_a_new_deployment(
    cluster: Cluster, queues: JobQueues, redis_url: str, replicas: int, our_types: None
) -> None:
    """The manifest's manager owns the replicas, the scaler nothing yet: they must not fall back to the default of 1."""
    scaling = {**FAST, "mode": "Manual"}
    made = queues.create(job_queue("email", redis_url, scaling=scaling, replicas=replicas))
    half_made = half_made_deployment(queues, made["metadata"]["uid"], replicas)
    cluster.kubectl(
        "apply", "--server-side", "--field-manager=toril-operator", "-n", queues.namespace, "-f", "-", stdin=half_made
    )
    seen: set[int | None] = set()
    with operator_process.start(cluster, namespaces=[queues.namespace]):
        queues.wait_reason("email", "ScalingActive", "False/Manual")
        for number in range(3):
            image = f"registry.invalid/app:{number}"
            queues.api.patch(queues.path("email"), {"spec": {"worker": {"image": image}}})

            def is_rolled(image: str = image) -> bool:
                found = queues.deployment("email")
                assert found is not None
                seen.add(found["spec"]["replicas"])
                return bool(found["spec"]["template"]["spec"]["containers"][0]["image"] == image)

            wait_until(is_rolled, f"image {image}", interval_seconds=0.02)
    assert seen == {replicas}


def half_made_deployment(queues: JobQueues, uid: str, replicas: int) -> str:
    labels = {"app.kubernetes.io/managed-by": "toril-operator", "toril.dev/jobqueue": "email"}
    owner = {
        "apiVersion": "toril.dev/v1alpha1", "kind": "JobQueue", "name": "email", "uid": uid, "controller": True,
        "blockOwnerDeletion": True,
    }  # fmt: skip
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "worker", "image": "registry.invalid/a"}]}}
    return yaml.safe_dump(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "jq-email",
                "namespace": queues.namespace,
                "labels": labels,
                "ownerReferences": [owner],
            },
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod},
        }
    )


def secret_ref(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


@pytest.mark.requirement("T88")
def test_secrets(own_operator: OperatorProcess, queues: JobQueues, server: RedisServer) -> None:
    """Missing, without the key, wrong, right: and never to be read anywhere but in the Secret."""
    server.client().config_set("requirepass", CANARY)
    path = f"/api/v1/namespaces/{queues.namespace}/secrets"
    redis = {"host": "127.0.0.1", "port": server.port, "passwordFrom": secret_ref("redis", "password")}
    queues.create(job_queue("email", "", redis=redis, scaling=FAST))
    queues.wait_reason("email", "RedisReachable", "False/SecretMissing")
    message = queues.condition("email", "RedisReachable")["message"]
    assert message == "Secret redis, key password: there is no such Secret"
    queues.wait_reason("email", "Ready", "False/RedisUnreachable")
    queues.wait_replicas("email", 0)
    queues.api.create(path, secret(password=f"not-{CANARY}\n"))
    queues.wait_reason("email", "RedisReachable", "False/AuthFailed")
    queues.api.patch(f"{path}/redis", {"stringData": {"password": f"{CANARY}\n"}})
    queues.wait_reason("email", "RedisReachable", "True/Connected")
    environment = deployment(queues)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "TORIL_REDIS_PASSWORD", "valueFrom": secret_ref("redis", "password")} in environment
    urls = {"urlFrom": secret_ref("redis", "url")}
    queues.create(job_queue("bad-url", "", redis=urls))
    queues.wait_reason("bad-url", "RedisReachable", "False/SecretMissing")
    queues.api.patch(f"{path}/redis", {"stringData": {"url": f"http://:{CANARY}@127.0.0.1"}})
    queues.wait_reason("bad-url", "RedisReachable", "False/SecretInvalid")
    queues.api.patch(f"{path}/redis", {"stringData": {"url": f"redis://:{CANARY}@127.0.0.1:{server.port}/2"}})
    queues.wait_reason("bad-url", "RedisReachable", "True/Connected")
    server.stop(kill=True)
    queues.wait_reason("email", "RedisReachable", "False/ConnectionRefused")
    everything = [own_operator.log, own_operator.http("/metrics")[1], *map(str, all_objects(queues))]
    assert not [text[:200] for text in everything if CANARY in text]


def secret(**content: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"}, "stringData": content}


def deployment(queues: JobQueues) -> dict[str, Any]:
    found = queues.deployment("email")
    assert found is not None
    return found


def all_objects(queues: JobQueues) -> Iterator[dict[str, Any]]:
    for path in (
        queues.path(),
        f"/apis/apps/v1/namespaces/{queues.namespace}/deployments",
        f"/apis/apps/v1/namespaces/{queues.namespace}/replicasets",
        f"/apis/events.k8s.io/v1/namespaces/{queues.namespace}/events",
    ):
        yield from queues.api.items(path)


@pytest.mark.requirement("T112")
def test_a_redis_on_this_machine_is_refused_unless_allowed(
    cluster: Cluster, queues: JobQueues, server: RedisServer, our_types: None
) -> None:
    flags = [f"--namespaces={queues.namespace}"]
    connections = server.client().info("stats")["total_connections_received"]
    operator = OperatorProcess(cluster, *flags)
    try:
        queues.create(job_queue("email", server.url))
        queues.create(job_queue("named", f"redis://localhost:{server.port}"))
        for name in ("email", "named"):
            queues.wait_reason(name, "RedisReachable", "False/EndpointRefused")
    finally:
        assert operator.stop() == 0
    # The two looks at the number are connections of their own.
    assert server.client().info("stats")["total_connections_received"] == connections + 1


NONSENSE = {
    "errors": b"-ERR " + CANARY.encode() * 40 + b"<script>\r\n",
    "number": b":1\r\n",
    "nothing": b"*-1\r\n",
    "nested": b"*1\r\n" * 5000,
    "huge": b"$2000000000\r\n" + b"x" * 65536,
    "http": b"HTTP/1.1 200 OK\r\n\r\n" + CANARY.encode(),
}


@pytest.mark.requirement("T111")
def test_servers_that_answer_nonsense_harm_nobody_else(
    own_operator: OperatorProcess, queues: JobQueues, redis_url: str
) -> None:
    with contextlib.ExitStack() as stack:
        for name, answer in NONSENSE.items():
            port = stack.enter_context(hostile_server(answer))
            queues.create(job_queue(name, f"redis://127.0.0.1:{port}"))
        queues.create(job_queue("email", redis_url))
        for name in NONSENSE:
            wait_until(
                lambda name=name: queues.condition(name, "RedisReachable").get("status") == "False",  # type: ignore[misc]
                f"{name} to be found out",
            )
            print(name, queues.condition(name, "RedisReachable")["message"])
        add_jobs(redis_url, "email", 1)
        queues.wait_replicas("email", 1)
        assert not [text for text in map(str, all_objects(queues)) if CANARY in text]
    assert own_operator.http("/livez")[0] == 200


@contextlib.contextmanager
def hostile_server(answer: bytes) -> Iterator[int]:
    """Answers everything with the same bytes; yields its port."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                while connection.recv(65536):
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.requirement("T109")
def test_idle_queues_cost_nothing(own_operator: OperatorProcess, queues: JobQueues, server: RedisServer) -> None:
    """Thirty queues with jobs in them, nothing changes: no write to Kubernetes, few calls to Redis."""
    names = [f"queue-{number}" for number in range(30)]
    for name in names:
        queues.create(job_queue(name, server.url, scaling={"minReplicas": 0, "maxReplicas": 1}))
    for name in names:
        queues.wait_reason(name, "Ready", "True/Reconciled")
    wait_until(
        lambda: all(own_operator.metric("toril_redis_up", jobqueue=name) == 1 for name in names), "all to be read"
    )
    commands = server.client().info("stats")["total_commands_processed"]
    connections = server.client().info("clients")["connected_clients"]
    began = time.monotonic()
    # Twice as long as the pause between two statuses. A machine that stood still may have to be told of first.
    wait_still(lambda: versions(queues), "nothing is written", seconds=10)
    done = server.client().info("stats")["total_commands_processed"] - commands
    print(f"30 idle queues: {done / (time.monotonic() - began):.1f} Redis commands a second, those of scripts included")
    assert connections < 6


def versions(queues: JobQueues) -> dict[str, str]:
    paths = (queues.path(), f"/apis/apps/v1/namespaces/{queues.namespace}/deployments")
    return {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for path in paths
        for item in queues.api.items(path)
    }


@pytest.mark.requirement("T75")
async def test_sigterm_while_working(own_operator: OperatorProcess, queues: JobQueues, redis_url: str) -> None:
    queues.create(job_queue("email", redis_url))
    async with open_queue(redis_url, "email") as engine:
        await engine.add()
        assert own_operator.stop() == 0, "within the grace of a pod"
        assert "Traceback" not in own_operator.log
