"""A Redis with an authority of its own that asks for certificates: the operator reads it, and workers get the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import operator_process, ports
from support.certificates import Certificates
from support.cluster import Cluster
from support.job_queues import FAST, JobQueues, add_jobs, job_queue
from support.redis_server import RedisServer


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    made = Certificates(tmp_path / "certificates")
    made.issue("server", "server", hosts=["redis.internal"])
    made.issue("client", "client")
    return made


@pytest.fixture
def tls_port() -> int:
    return ports.free_port()


@pytest.fixture
def server(certificates: Certificates, tls_port: int) -> Iterator[RedisServer]:
    options = {
        "--tls-port": tls_port,
        "--tls-cert-file": certificates.certificate("server"),
        "--tls-key-file": certificates.key("server"),
        "--tls-ca-cert-file": certificates.ca,
        "--tls-auth-clients": "yes",
    }
    started = RedisServer(*(str(part) for option in options.items() for part in option))
    yield started
    started.remove()


def secret(name: str, **content: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}


def reference(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def test_certificates_from_secrets(
    cluster: Cluster,
    queues: JobQueues,
    certificates: Certificates,
    server: RedisServer,
    tls_port: int,
    our_types: None,
) -> None:
    tls = {
        "caFrom": reference("authority", "ca.crt"),
        "certFrom": reference("client", "tls.crt"),
        "keyFrom": reference("client", "tls.key"),
        "serverName": "redis.internal",
    }
    by_host = {"host": "127.0.0.1", "port": tls_port, "db": 1, "tls": {"enabled": True, **tls}}
    by_url = {"url": f"rediss://127.0.0.1:{tls_port}/2", "tls": tls}
    key = certificates.key("client").read_text()
    path = f"/api/v1/namespaces/{queues.namespace}/secrets"
    with operator_process.start(cluster, namespaces=[queues.namespace]) as operator:
        queues.create(job_queue("email", "", redis=by_host, scaling=FAST))
        queues.create(job_queue("pages", "", redis=by_url, scaling=FAST))
        queues.wait_reason("email", "RedisReachable", "False/SecretMissing")
        authority = {"ca.crt": certificates.ca.read_text()}
        queues.api.create(path, secret("authority", **authority))
        client = {"tls.crt": certificates.certificate("client").read_text(), "tls.key": "canary"}
        queues.api.create(path, secret("client", **client))
        queues.wait_reason("email", "RedisReachable", "False/SecretInvalid")
        message = queues.condition("email", "RedisReachable")["message"]
        assert message == "Secret client, key tls.key: holds no private key in PEM form"
        queues.api.patch(f"{path}/client", {"stringData": {"tls.key": key}})
        queues.wait_reason("email", "RedisReachable", "True/Connected")
        queues.wait_reason("pages", "RedisReachable", "True/Connected")
        add_jobs(f"redis://127.0.0.1:{server.port}/1", "email", 1)
        queues.wait_replicas("email", 1)
        for name in ("email", "pages"):
            found = queues.deployment(name)
            assert found is not None
            pod = found["spec"]["template"]["spec"]
            names = [each["name"] for each in pod["containers"][0]["env"]]
            assert {f"TORIL_REDIS_TLS_{part}" for part in ("CA_FILE", "CERT_FILE", "KEY_FILE", "SERVER_NAME")} <= {
                *names
            }
            assert "toril-redis-tls" in [volume["name"] for volume in pod["volumes"]]
        assert "PRIVATE KEY" not in operator.log
        assert "canary" not in operator.log
