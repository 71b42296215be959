"""The node that the other tests of this folder stand on: images, names, Services, logs."""

from __future__ import annotations

import sys
from typing import Any

from support import waiting
from support.cluster import Cluster

SERVE = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8080)"


def pod(name: str, image: str, *command: str) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}
    if command:
        container["command"] = list(command)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def service(name: str, port: int) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def test_pods_reach_each_other_by_name_and_their_logs_are_read(
    cluster: Cluster, namespace: str, base_image: str
) -> None:
    cluster.apply(pod("server", base_image, "python3", "-uc", SERVE), service("server", 8080), namespace=namespace)
    cluster.apply(pod("client", base_image, "sleep", "600"), namespace=namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/server", "pod/client", "-n", namespace, "--timeout=120s")

    ask = "import urllib.request; print(urllib.request.urlopen('http://server:8080/etc/hostname', timeout=5).read())"
    in_client = ["exec", "client", "-n", namespace, "--", "python3", "-c"]
    waiting.wait_until(
        lambda: "b'server" in cluster.kubectl(*in_client, ask, check=False), "an answer by name", timeout_seconds=60
    )
    assert '"GET /etc/hostname HTTP/1.1" 200' in cluster.kubectl("logs", "server", "-n", namespace)


def test_what_runs_beside_the_cluster_reaches_services_by_name(
    cluster: Cluster, namespace: str, redis_image: str
) -> None:
    cluster.apply(pod("redis", redis_image), service("redis", 6379), namespace=namespace)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/redis", "-n", namespace, "--timeout=120s")

    host = f"redis.{namespace}.svc.cluster.local"
    ask = f"import redis; print(redis.Redis(host='{host}', socket_connect_timeout=5).ping())"

    def answer() -> str:
        done = cluster.run([sys.executable, "-c", ask])
        return done.stdout.strip() or done.stderr[-300:]

    waiting.wait_until(lambda: answer() == "True", "Redis to answer through its Service", timeout_seconds=60)
