"""The only user of the Kubernetes client: configuration, credentials and transport, with plain dicts.

The client's typed models drop fields that they do not know, so objects go in and out here as the JSON they are.
Every call has a deadline; what may be repeated (no answer, 429, 5xx) is repeated within it. Nothing is cached.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from toril import errors

Json = dict[str, Any]

DEADLINE_SECONDS = 10.0
"""Longest time for one call with its repetitions."""
ATTEMPT_SECONDS = 5.0
"""Longest time for one attempt; a list of 500 large objects takes well under one second."""
PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0)
"""Pauses between attempts when the server names none, each with up to 20 % more."""
RENEWAL_SECONDS = 2 * ATTEMPT_SECONDS
"""Credentials are read anew at most so often; by then no call is left on the older ones."""
PAGE_SIZE = 500
MAX_MESSAGE = 400
"""Characters of the server's words that go into an error."""
_BEARER = "BearerToken"


@dataclass(frozen=True, slots=True)
class Resource:
    """A type of object: `Resource("apps/v1", "deployments")`."""

    api_version: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Path under the server. Without a namespace: the objects of all namespaces, or a cluster's own."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


JOB_QUEUES = Resource("toril.dev/v1alpha1", "jobqueues")
CRON_JOB_SCHEDULES = Resource("toril.dev/v1alpha1", "cronjobschedules")
DEPLOYMENTS = Resource("apps/v1", "deployments")
PODS = Resource("v1", "pods")
SECRETS = Resource("v1", "secrets")
EVENTS = Resource("events.k8s.io/v1", "events")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the server is and how to get in, for a library with a connection of its own (kopf)."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    scheme: str | None
    token: str | None
    is_verified: bool

    def __repr__(self) -> str:
        return f"Credentials({self.server!r})"


async def load_configuration(kubeconfig: str | None) -> Configuration:
    """Read the file; without one the pod's own ServiceAccount, else what `KUBECONFIG` or `~/.kube/config` says.

    Raises:
        SettingsError: none of them can be used.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=kubeconfig, client_configuration=configuration, persist_config=False
            )
    except (kubernetes_config.ConfigException, OSError) as problem:
        raise errors.SettingsError(f"cannot read how to reach Kubernetes: {problem}") from None
    configuration.retries = None
    # Python 3.13 asks more of certificates than Go, and so than the certificates of many clusters give.
    configuration.disable_strict_ssl_verification = True
    return configuration


async def read_credentials(kubeconfig: str | None) -> Credentials:
    """Read anew what `load_configuration` reads, with the same errors."""
    configuration = await load_configuration(kubeconfig)
    header = await configuration.get_api_key_with_prefix(_BEARER)
    scheme, _, token = (header or "").strip().partition(" ")
    return Credentials(
        server=configuration.host,
        ca_file=configuration.ssl_ca_cert,
        certificate_file=configuration.cert_file,
        key_file=configuration.key_file,
        scheme=scheme or None,
        token=token.strip() or None,
        is_verified=configuration.verify_ssl,
    )


class KubeClient:
    """Calls to one API server. Made on the event loop that uses it; `close` when done."""

    def __init__(self, configuration: Configuration, kubeconfig: str | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._api = _api_client(configuration)
        self._retired: list[ApiClient] = []
        """Those with older credentials; calls may still be under way on them."""
        self._renewed_at = 0.0

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> KubeClient:
        """Read the configuration; no call is made yet. Raises as `load_configuration` does."""
        return cls(await load_configuration(kubeconfig), kubeconfig)

    async def close(self) -> None:
        for client in (self._api, *self._retired):
            await client.close()  # type: ignore[no-untyped-call]

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """One object. Raises KubeNotFoundError when it is not there."""
        return await self._call("GET", resource.path(namespace, name))

    async def get_or_none(self, resource: Resource, namespace: str, name: str) -> Json | None:
        try:
            return await self.get(resource, namespace, name)
        except errors.KubeNotFoundError:
            return None

    async def serves(self, resource: Resource) -> bool:
        """Whether the server has this type of object."""
        try:
            found = await self._call("GET", f"/apis/{resource.api_version}")
        except errors.KubeNotFoundError:
            return False
        return any(each.get("name") == resource.plural for each in found.get("resources") or ())

    async def is_alive(self) -> bool:
        """Whether the server says of itself that it lives; needs no right on any object."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status, _, _ = await self._send("GET", "/livez", (), {}, None)
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False
        return status == 200

    async def list(
        self, resource: Resource, namespace: str | None = None, label_selector: str | None = None
    ) -> AsyncIterator[Json]:
        """Yield all objects, page by page.

        Raises:
            KubeNotFoundError: also when the list took so long that its next page has expired.
        """
        query: dict[str, str] = {"limit": str(PAGE_SIZE)}
        if label_selector:
            query["labelSelector"] = label_selector
        while True:
            page = await self._call("GET", resource.path(namespace), query)
            for item in page.get("items") or []:
                yield item
            if not (token := page.get("metadata", {}).get("continue")):
                return
            query["continue"] = token

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], *, manager: str, force: bool = False,
        dry_run: bool = False, subresource: str | None = None,
    ) -> Json:  # fmt: skip
        """Server-side apply; answers the object as it now is.

        Args:
            manager: the field manager; fields that it applied before and no longer does are removed.
            force: take fields that other managers own.

        Raises:
            KubeConflictError: another manager owns a field, or `metadata.resourceVersion` is not the present one.
            KubeInvalidError: the server refuses the object as it is.
        """
        metadata = manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true" if force else "false", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return await self._call("PATCH", path, query, manifest, "application/apply-patch+yaml")

    async def apply_status(self, resource: Resource, manifest: Mapping[str, Any], *, manager: str) -> Json:
        """Apply `status`, taking over what others wrote there."""
        return await self.apply(resource, manifest, manager=manager, force=True, subresource="status")

    async def scale(
        self, namespace: str, name: str, replicas: int, *, manager: str, resource_version: str | None = None
    ) -> Json:
        """Set a Deployment's replicas through its scale subresource; only that field becomes the manager's.

        Args:
            resource_version: only if the Deployment is still at this one.
        """
        manifest = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": replicas},
        }
        if resource_version is not None:
            cast("Json", manifest["metadata"])["resourceVersion"] = resource_version
        return await self.apply(DEPLOYMENTS, manifest, manager=manager, force=True, subresource="scale")

    async def set_finalizers(self, resource: Resource, manifest: Mapping[str, Any], finalizers: Sequence[str]) -> Json:
        """Replace an object's finalizers; answers the object as it now is, which may be its last.

        Args:
            manifest: the object as last seen.

        Raises:
            KubeConflictError: it has changed since.
        """
        metadata = manifest["metadata"]
        change = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": list(finalizers)}}
        path = resource.path(metadata["namespace"], metadata["name"])
        return await self._call("PATCH", path, None, change, "application/merge-patch+json")

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Json:
        """Create an object. Repeated when no answer comes, so that it needs a name of its own to be made once."""
        return await self._call("POST", resource.path(manifest["metadata"]["namespace"]), None, manifest)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        """Delete exactly this object, its dependents in the background. One that is gone already is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._call("DELETE", resource.path(namespace, name), None, body)
        except errors.KubeNotFoundError:
            return

    async def secret_or_none(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """A Secret's decoded content by key; None when there is no such Secret."""
        found = await self.get_or_none(SECRETS, namespace, name)
        if found is None:
            return None
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Json:
        """One call with its repetitions. Raises one of the KubeErrors."""
        what = f"{method} {path}"
        headers = {"Accept": "application/json", "Content-Type": content_type}
        attempt, failure, has_renewed = 0, "no answer", False
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    pause = PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)]
                    try:
                        async with asyncio.timeout(ATTEMPT_SECONDS):
                            status, raw, retry_after = await self._send(method, path, query or {}, headers, body)
                    except (OSError, TimeoutError, aiohttp.ClientError) as problem:
                        failure = f"no answer ({type(problem).__name__})"
                    else:
                        if status < 300:
                            return cast("Json", json.loads(raw)) if raw else {}
                        if status == 401 and not has_renewed:
                            has_renewed, pause = True, 0.0
                            await self._renew()
                        elif _is_final(status, raw):
                            raise _error(what, status, raw)
                        else:
                            pause = max(pause, retry_after)
                        failure = f"HTTP {status}: {_message(raw)}"
                    attempt += 1
                    await asyncio.sleep(pause * random.uniform(1.0, 1.2))
        except TimeoutError:
            raise errors.KubeUnavailableError(f"{what}: {failure}") from None

    async def _send(
        self, method: str, path: str, query: Any, headers: Mapping[str, str], body: Any
    ) -> tuple[int, bytes, float]:
        """One request: status, body, and the seconds to wait that the server names (0 = none)."""
        api = self._api
        arguments = await api.param_serialize(
            method, path, query_params=list(dict(query).items()), header_params=dict(headers), body=body,
            auth_settings=[_BEARER],
        )  # fmt: skip
        response = await api.call_api(*arguments, _request_timeout=aiohttp.ClientTimeout(total=ATTEMPT_SECONDS))
        raw = await response.read()  # type: ignore[no-untyped-call]
        try:
            retry_after = float(response.headers.get("Retry-After") or 0)
        except ValueError:
            retry_after = 0.0
        return response.status, raw, retry_after

    async def _renew(self) -> None:
        """Read the credentials anew: a token may have been replaced. Once for all calls that were refused together."""
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at < RENEWAL_SECONDS:
            return
        self._renewed_at = now
        fresh = _api_client(await load_configuration(self._kubeconfig))
        ended, self._retired = self._retired, [self._api]
        self._api = fresh
        for client in ended:
            await client.close()  # type: ignore[no-untyped-call]


def _api_client(configuration: Configuration) -> ApiClient:
    client = ApiClient(configuration)
    client.user_agent = "toril"
    return client


def _message(raw: bytes) -> str:
    try:
        text = str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        text = raw[:MAX_MESSAGE].decode(errors="replace")
    return "".join(char if char.isprintable() else " " for char in text)[:MAX_MESSAGE]


def _is_final(status: int, raw: bytes) -> bool:
    """Whether the same call would be refused again."""
    if status == 500:
        # So does server-side apply answer to unknown fields, doubled keys and values of the wrong form.
        return b"failed to create typed patch object" in raw or b"unable to convert unstructured object" in raw
    return status != 429 and status < 500


def _error(what: str, status: int, raw: bytes) -> errors.KubeError:
    kind: type[errors.KubeError]
    match status:
        case 401 | 403:
            kind = errors.KubeForbiddenError
        case 404 | 410:
            kind = errors.KubeNotFoundError
        case 409:
            kind = errors.KubeConflictError
        case _:
            kind = errors.KubeInvalidError
    return kind(f"{what}: {_message(raw)}", status)
