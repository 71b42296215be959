"""A small blocking client of the API server for tests: fast enough to time things, and none of our own code."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from support.cluster import Cluster
from support.cluster_errors import ClusterError
from support.waiting import wait_until
from toril.cli import schemas


def install_crds(cluster: Cluster) -> None:
    """Have the server know our kinds."""
    cluster.apply(*(schemas.crd_text(plural) for plural in schemas.PLURALS.values()))
    for plural in schemas.PLURALS.values():
        wait_served(cluster, f"{plural}.toril.dev")


def wait_served(cluster: Cluster, crd: str) -> None:
    """Wait until a resource can be used: it is established a moment before kubectl finds it and it can be read."""
    cluster.kubectl("wait", "--for=create", f"crd/{crd}", "--timeout=60s")
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=60s")

    def is_served() -> bool:
        try:
            cluster.kubectl("get", crd, "--all-namespaces")
        except ClusterError:
            return False
        return True

    wait_until(is_served, f"{crd} to be served")


TOO_MANY_REQUESTS = 429
BUSY_SECONDS = 20.0
"""A server that is too busy is asked again for so long."""
IDLE_SECONDS = 10.0
"""A connection that was not used for so long is opened anew: the server may have closed it."""


class KubeApi:
    """Speaks as the kubeconfig's user, over one kept connection."""

    def __init__(self, cluster: Cluster) -> None:
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        place, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(place["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder, "certificate"), Path(folder, "key")
            certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            context.load_cert_chain(certificate, key)
        server = urlsplit(place["server"])
        self._connection = http.client.HTTPSConnection(server.hostname or "", server.port, context=context, timeout=60)
        self._used_at = time.monotonic()

    def get_or_none(self, path: str) -> dict[str, Any] | None:
        status, answer = self.call("GET", path)
        return None if status == 404 else self._checked(status, answer)

    def get(self, path: str) -> dict[str, Any]:
        return self._checked(*self.call("GET", path))

    def items(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(path)["items"]
        return found

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        return self._checked(*self.call("POST", path, manifest))

    def patch(self, path: str, change: dict[str, Any]) -> dict[str, Any]:
        """A merge patch, as `kubectl edit` and others send it."""
        return self._checked(*self.call("PATCH", path, change, "application/merge-patch+json"))

    def delete(self, path: str) -> None:
        self._checked(*self.call("DELETE", path))

    def create_namespace(self, name: str) -> None:
        """A new namespace, ready for pods; much faster than by kubectl."""
        self.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_until(lambda: self.get_or_none(account), f"the ServiceAccount `default` of {name}", timeout_seconds=30)

    def call(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Status code and decoded answer."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            status, answer = self._ask(method, path, body, content_type)
            # The server does nothing yet: it is busy, or begins to serve a resource.
            if status != TOO_MANY_REQUESTS or time.monotonic() > deadline:
                return status, answer
            time.sleep(0.2)

    def _ask(self, method: str, path: str, body: Any, content_type: str) -> tuple[int, dict[str, Any]]:
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self._connection.close()
        payload = None if body is None else json.dumps(body)
        self._connection.request(method, path, payload, {"Content-Type": content_type})
        reply = self._connection.getresponse()
        text = reply.read()
        # A server that is busy says so in plain words.
        answer = json.loads(text) if text.startswith(b"{") else {"message": text.decode(errors="replace")}
        self._used_at = time.monotonic()
        return reply.status, answer

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def _checked(status: int, answer: dict[str, Any]) -> dict[str, Any]:
        assert status < 300, f"HTTP {status}: {answer.get('message')}"
        return answer
