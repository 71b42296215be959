"""Calls to Kubernetes through its client's transport, with plain dicts; `kube_access` says how the server is reached.

The client's typed models drop fields that they do not know, so objects go in and out here as the JSON they are.
Every call has a deadline, within which it is repeated when there is no answer, or 429 or 5xx. Nothing is cached.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from toril import clock, errors, kube_access, proxies

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

Credentials = kube_access.Credentials
read_credentials = kube_access.read_credentials


class KubeClient:
    """Calls to one API server. Made on the event loop that uses it; `close` when done."""

    def __init__(
        self,
        configuration: Configuration,
        kubeconfig: str | None = None,
        *,
        proxy: proxies.Proxy | None = None,
        expires_at_ms: int | None = None,
    ) -> None:
        """Args:
        kubeconfig: read anew when the credentials are refused or have ended.
        proxy: the configuration's, for messages.
        expires_at_ms: when the credentials end, Unix milliseconds; None = not known.
        """
        self._kubeconfig = kubeconfig
        self._api = _api_client(configuration)
        self._proxy = proxy
        self._expires_at_ms = expires_at_ms
        self._retired: list[ApiClient] = []
        """Clients with older credentials, on which calls may be under way."""
        self._renewal: asyncio.Task[None] | None = None
        """The latest reading of credentials."""
        self._renewed_at = 0.0

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> KubeClient:
        """Read the configuration; no call is made yet. Raises as `kube_access.load` does."""
        access = await kube_access.load(kubeconfig)
        return cls(access.configuration, kubeconfig, proxy=access.proxy, expires_at_ms=access.expires_at_ms)

    async def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        for client in (self._api, *self._retired):
            await client.close()  # type: ignore[no-untyped-call]

    @property
    def place(self) -> str:
        """Where calls go, for people: the server, and the proxy on the way."""
        server = str(self._api.configuration.host)
        return server if self._proxy is None else f"{server} through proxy {self._proxy}"

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """One object. Raises KubeNotFoundError when it is not there."""
        return await self._call("GET", resource.path(namespace, name))

    async def get_cluster_object(self, resource: Resource, name: str) -> Json:
        """One object that is in no namespace, or one namespace. Raises KubeNotFoundError when it is not there."""
        return await self._call("GET", resource.path(None, name))

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
        """Whether `/livez` of the server answers 200; needs no right on any object."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status, _, _ = await self._send("GET", "/livez", (), {}, None)
        except (OSError, TimeoutError, aiohttp.ClientError, errors.SettingsError):
            return False
        return status == 200

    async def list(
        self, resource: Resource, namespace: str | None = None, label_selector: str | None = None
    ) -> AsyncIterator[Json]:
        """Yield all objects, page by page.

        Raises:
            KubeUnavailableError: also when the list took so long that its next page has expired. Begin anew.
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
        what = f"{method} {path}" if self._proxy is None else f"{method} {path} through proxy {self._proxy}"
        headers = {"Accept": "application/json", "Content-Type": content_type}
        attempt, failure, has_renewed = 0, "no answer", False
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    pause = PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)]
                    try:
                        if self._has_expired():
                            await self._renew()
                        async with asyncio.timeout(ATTEMPT_SECONDS):
                            status, raw, retry_after = await self._send(method, path, query or {}, headers, body)
                        if status == 401 and not has_renewed:
                            await self._renew()
                            has_renewed, pause = True, 0.0
                        elif status < 300:
                            return cast("Json", json.loads(raw)) if raw else {}
                        elif _is_final(status, raw):
                            raise _error(what, status, raw)
                    except errors.SettingsError as problem:
                        failure = str(problem)
                    except (OSError, TimeoutError, aiohttp.ClientError) as problem:
                        failure = f"no answer ({type(problem).__name__})"
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
        """One request: status, body, and the seconds to wait that the server names (0 = none).

        Raises:
            SettingsError: the token's file cannot be read any more.
        """
        api = self._api
        try:
            arguments = await api.param_serialize(
                method, path, query_params=list(dict(query).items()), header_params=dict(headers), body=body,
                auth_settings=[kube_access.BEARER],
            )  # fmt: skip
        except kubernetes_config.ConfigException as problem:
            raise errors.SettingsError(f"cannot read how to reach Kubernetes: {problem}") from None
        response = await api.call_api(*arguments, _request_timeout=aiohttp.ClientTimeout(total=ATTEMPT_SECONDS))
        raw = await response.read()  # type: ignore[no-untyped-call]
        try:
            retry_after = float(response.headers.get("Retry-After") or 0)
        except ValueError:
            retry_after = 0.0
        return response.status, raw, retry_after

    def _has_expired(self) -> bool:
        return self._expires_at_ms is not None and clock.now_ms() >= self._expires_at_ms

    async def _renew(self) -> None:
        """Read the credentials anew: a token may have been replaced. Once for all calls that were refused together.

        Raises:
            SettingsError: they cannot be read.
        """
        now = asyncio.get_running_loop().time()
        if self._renewal is None or (self._renewal.done() and now - self._renewed_at >= RENEWAL_SECONDS):
            self._renewed_at = now
            self._renewal = asyncio.create_task(self._read_anew(), name="credentials")
            # All who wait for it may have run out of time.
            self._renewal.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # A plugin may take longer than one call: the next call waits on for the same one.
        await asyncio.shield(self._renewal)

    async def _read_anew(self) -> None:
        access = await kube_access.load(self._kubeconfig)
        fresh = _api_client(access.configuration)
        ended, self._retired = self._retired, [self._api]
        self._api, self._proxy, self._expires_at_ms = fresh, access.proxy, access.expires_at_ms
        for client in ended:
            await client.close()  # type: ignore[no-untyped-call]


def _api_client(configuration: Configuration) -> ApiClient:
    """Raises SettingsError: a certificate cannot be used."""
    try:
        client = ApiClient(configuration)
    except OSError as problem:
        raise errors.SettingsError(f"cannot use the certificates for Kubernetes: {problem}") from None
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
        # Server-side apply answers 500 to unknown fields, duplicate keys and values of a wrong type.
        return b"failed to create typed patch object" in raw or b"unable to convert unstructured object" in raw
    return status != 429 and status < 500


def _error(what: str, status: int, raw: bytes) -> errors.KubeError:
    kind: type[errors.KubeError]
    match status:
        case 401 | 403:
            kind = errors.KubeForbiddenError
        case 404:
            kind = errors.KubeNotFoundError
        case 410:
            # Of a list only: what it read so far is older than what the server still knows.
            kind = errors.KubeUnavailableError
        case 409:
            kind = errors.KubeConflictError
        case _:
            kind = errors.KubeInvalidError
    return kind(f"{what}: {_message(raw)}", status)
