"""Ways to the API server that companies have: proxies, exec plugins, tokens that end."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import operator_process
from support.cluster import Cluster
from support.connect_proxy import connect_proxy
from support.job_queues import JobQueues, job_queue
from support.waiting import wait_until
from toril import errors, kube

VERSION = "client.authentication.k8s.io/v1"
ELSEWHERE = "kube.test.invalid:6443"
"""A server's name that nobody can look up: it is reached by a proxy only."""


def changed_kubeconfig(cluster: Cluster, folder: Path, **changes: Any) -> Path:
    """Args: changes: `user` replaces the user's part; else fields of the cluster's."""
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    if "user" in changes:
        config["users"][0]["user"] = changes.pop("user")
    config["clusters"][0]["cluster"] |= changes
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


class Plugin:
    """An exec plugin that answers what its file `answer` holds, and fails without one; each run leaves a line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        script = folder / "plugin"
        script.write_text(f'#!/bin/sh\necho run >> "{folder}/runs"; cat "{folder}/answer"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        self.user = {"exec": {"apiVersion": VERSION, "command": str(script)}}

    def answer(self, token: str, expiry: str = "2100-01-01T00:00:00Z") -> None:
        status = {"token": token, "expirationTimestamp": expiry}
        credential = {"apiVersion": VERSION, "kind": "ExecCredential", "status": status}
        (self._folder / "answer").write_text(json.dumps(credential))

    def fail(self) -> None:
        (self._folder / "answer").unlink()

    @property
    def runs(self) -> int:
        return len((self._folder / "runs").read_text().splitlines())


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


@pytest.mark.parametrize(
    ("first", "expiry"), [("expired", "2100-01-01T00:00:00Z"), ("", "2001-01-01T00:00:00Z")], ids=["refused", "ended"]
)
async def test_a_plugin_is_asked_anew(
    cluster: Cluster, namespace: str, tmp_path: Path, plugin: Plugin, first: str, expiry: str
) -> None:
    token = cluster.kubectl("create", "token", "default", "-n", namespace).strip()
    plugin.answer(first or token, expiry)
    client = await kube.KubeClient.connect(str(changed_kubeconfig(cluster, tmp_path, user=plugin.user)))
    try:
        plugin.answer(token)
        with pytest.raises(errors.KubeForbiddenError) as refused:
            await client.get(kube.SECRETS, namespace, "one")
        assert refused.value.status == 403, "let in, as somebody without rights"
        assert plugin.runs == 2
    finally:
        await client.close()


async def test_a_plugin_that_fails_later_is_told(
    cluster: Cluster, namespace: str, tmp_path: Path, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube, "DEADLINE_SECONDS", 2.0)
    plugin.answer("expired")
    client = await kube.KubeClient.connect(str(changed_kubeconfig(cluster, tmp_path, user=plugin.user)))
    try:
        plugin.fail()
        for _ in range(2):
            with pytest.raises(
                errors.KubeUnavailableError, match=r"the exec plugin plugin ended with 1: .*No such file"
            ):
                await client.get(kube.SECRETS, namespace, "one")
        assert plugin.runs == 2, "asked at most every ten seconds"
    finally:
        await client.close()


def test_an_operator_behind_a_proxy(
    cluster: Cluster, queues: JobQueues, tmp_path: Path, redis_url: str, our_types: None
) -> None:
    """Both halves go through it: the lists, and the watches that alone see what is made later."""
    host, _, port = cluster.server.removeprefix("https://").partition(":")
    place = {"server": f"https://{ELSEWHERE}", "insecure-skip-tls-verify": True}
    kubeconfig = changed_kubeconfig(cluster, tmp_path, **place)
    without_authority(kubeconfig)
    with connect_proxy((host, int(port))) as proxy:
        environment = {"HTTPS_PROXY": f"http://user:canary@127.0.0.1:{proxy.port}", "NO_PROXY": "10.0.0.0/8,127.0.0.1"}
        with operator_process.start(
            cluster, namespaces=[queues.namespace], kubeconfig=kubeconfig, environment=environment
        ) as operator:
            queues.create(job_queue("email", redis_url))
            queues.wait_reason("email", "Ready", "True/Reconciled")
            assert f"through proxy http://127.0.0.1:{proxy.port} (HTTPS_PROXY)" in operator.log
            assert "canary" not in operator.log
        assert set(proxy.targets) == {ELSEWHERE}


def test_no_proxy_with_a_network_and_a_port(
    cluster: Cluster, queues: JobQueues, tmp_path: Path, redis_url: str, our_types: None
) -> None:
    """Nobody asks the proxy, neither for the lists nor for the watches."""
    host, _, port = cluster.server.removeprefix("https://").partition(":")
    with connect_proxy((host, int(port)), is_open=False) as proxy:
        for no_proxy in (f"{host}/16", f"{host}:{port}"):
            environment = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": no_proxy}
            with operator_process.start(cluster, namespaces=[queues.namespace], environment=environment):
                name = f"email-{len(no_proxy)}"
                queues.create(job_queue(name, redis_url))
                queues.wait_reason(name, "Ready", "True/Reconciled")
        assert proxy.targets == []


def test_a_proxy_that_refuses_is_named(cluster: Cluster, tmp_path: Path) -> None:
    host, _, port = cluster.server.removeprefix("https://").partition(":")
    with connect_proxy((host, int(port)), is_open=False) as proxy:
        kubeconfig = changed_kubeconfig(cluster, tmp_path, **{"proxy-url": f"http://127.0.0.1:{proxy.port}"})
        with operator_process.start(cluster, kubeconfig=kubeconfig, is_ready=False) as operator:
            words = f"through proxy http://127.0.0.1:{proxy.port} (proxy-url): no answer"
            wait_until(lambda: words in operator.log, "the proxy to be named", timeout_seconds=60)
            assert operator.http("/livez")[0] == 200


def without_authority(kubeconfig: Path) -> None:
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    for name in ("certificate-authority-data", "tls-server-name"):
        config["clusters"][0]["cluster"].pop(name, None)
    kubeconfig.write_text(yaml.safe_dump(config))
