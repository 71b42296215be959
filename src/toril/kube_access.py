"""How Kubernetes is reached: server, certificates, credentials and proxy, by a kubeconfig or a pod's ServiceAccount.

The client's own loader goes on without credentials when a user's credentials cannot be read. Here that is an error,
which names what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import kube_config

from toril import errors, proxies

BEARER = "BearerToken"
"""The client's name for the header `Authorization`."""
PLUGIN_SECONDS = 60.0
"""Time limit of a user's exec plugin; some call an identity provider over the network."""
MAX_PLUGIN_WORDS = 400
"""Characters of a plugin's stderr that go into an error."""
_UNREADABLE = (
    kubernetes_config.ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError,
)  # fmt: skip
"""What the client raises for files that are no kubeconfig."""


@dataclass(frozen=True, slots=True)
class Access:
    """A kubeconfig or a ServiceAccount as it was read."""

    configuration: Configuration
    """The client's configuration. Only its `proxy` is used; the environment's variables are already in it."""
    proxy: proxies.Proxy | None
    expires_at_ms: int | None
    """When the credentials end, Unix milliseconds; None = not known."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The server and the credentials, for a library with a connection of its own (kopf)."""

    server: str
    ca_file: str | None
    certificate_file: str | None
    key_file: str | None
    scheme: str | None
    token: str | None
    is_verified: bool
    proxy_url: str | None
    """Whole, with its password; None = no proxy, whatever the environment says."""
    expires_at_ms: int | None
    """Unix milliseconds; None = not known."""

    def __repr__(self) -> str:
        return f"Credentials({self.server!r})"


async def load(kubeconfig: str | None) -> Access:
    """Read the file; without one the pod's own ServiceAccount, else what `KUBECONFIG` or `~/.kube/config` says.

    Raises:
        SettingsError: none of them can be used, or the user's exec plugin gave no credentials.
    """
    configuration = Configuration()
    expires_at_ms = None
    try:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            loader = _loader(kubeconfig)
            await loader.load_and_set(configuration)
            expires_at_ms = loader.expires_at_ms
        _tidy_token(configuration)
    except _UNREADABLE as problem:
        words = str(problem) or type(problem).__name__
        raise errors.SettingsError(f"cannot read how to reach Kubernetes: {words}") from None
    configuration.retries = None
    # Python 3.13 checks certificates more strictly than Go; the certificates of many clusters would fail.
    configuration.disable_strict_ssl_verification = True
    proxy = _proxy(configuration)
    configuration.proxy = None if proxy is None else proxy.url
    # With `trust_env` the session would read proxies by other rules, and passwords from ~/.netrc.
    configuration.client_session_kwargs = {"trust_env": False}
    return Access(configuration, proxy, expires_at_ms)


async def read_credentials(kubeconfig: str | None) -> Credentials:
    """Read anew what `load` reads, with the same errors."""
    access = await load(kubeconfig)
    configuration = access.configuration
    header = await configuration.get_api_key_with_prefix(BEARER)
    scheme, _, token = (header or "").partition(" ")
    return Credentials(
        server=configuration.host,
        ca_file=configuration.ssl_ca_cert,
        certificate_file=configuration.cert_file,
        key_file=configuration.key_file,
        scheme=scheme or None,
        token=token or None,
        is_verified=configuration.verify_ssl,
        proxy_url=configuration.proxy,
        expires_at_ms=access.expires_at_ms,
    )


def _proxy(configuration: Configuration) -> proxies.Proxy | None:
    """The proxy: a cluster's `proxy-url`, else by the environment's variables."""
    if configuration.proxy:
        return proxies.parse(configuration.proxy, "proxy-url")
    return proxies.from_environment(configuration.host, os.environ)


def _tidy_token(configuration: Configuration) -> None:
    """Strip the token's newline from the header, now and whenever the client reads the token anew."""
    header: str = configuration.api_key.get(BEARER, "")
    if not header:
        return
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    if not token or not token.isprintable():
        raise kubernetes_config.ConfigException("the token is empty, or holds more than one line")
    configuration.api_key[BEARER] = f"{scheme} {token}"
    read_anew: Any = configuration.refresh_api_key_hook
    if read_anew is not None:
        # Each reading sets the client's own hook again.
        def read_tidily(changed: Configuration) -> None:
            read_anew(changed)
            _tidy_token(changed)

        configuration.refresh_api_key_hook = read_tidily  # type: ignore[assignment]


def _loader(kubeconfig: str | None) -> _Loader:
    path = kubeconfig or os.environ.get("KUBECONFIG") or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    merged = kube_config.KubeConfigMerger(path)  # type: ignore[no-untyped-call]
    # None: paths are relative to the file that names them.
    return _Loader(merged.config, config_base_path=None)  # type: ignore[no-untyped-call]


class _Loader(kube_config.KubeConfigLoader):
    """The client's loader, with errors for what that ignores: failing plugins, token files that are empty, contexts
    without a user."""

    expires_at_ms: int | None = None
    _user: Any
    _cluster: Any

    async def load_and_set(self, client_configuration: Configuration) -> None:
        if self._user is None:
            self._user = kube_config.ConfigNode("user", {}, self._cluster.path)  # type: ignore[no-untyped-call]
        await super().load_and_set(client_configuration)  # type: ignore[no-untyped-call]
        if self._user.safe_get("tokenFile") and "token" not in self.__dict__:
            raise kubernetes_config.ConfigException(f"the token's file is empty: {self._user['tokenFile']}")

    async def load_from_exec_plugin(self) -> Literal[True]:
        folder: str = self._get_base_path(self._user.path)  # type: ignore[no-untyped-call]
        status = await _run_plugin(self._user["exec"].value, folder)
        if token := status.get("token"):
            self.token = f"Bearer {token}"
        if "clientCertificateData" in status and "clientKeyData" in status:
            self.cert_file = _as_file(status, "clientCertificateData")
            self.key_file = _as_file(status, "clientKeyData")
        elif not token:
            raise kubernetes_config.ConfigException("the exec plugin gave neither a token nor certificate and key")
        if expiry := status.get("expirationTimestamp"):
            end = datetime.datetime.fromisoformat(expiry)
            self.expires_at_ms = int(1000 * end.timestamp())
        return True


def _as_file(status: Mapping[str, Any], part: str) -> str:
    found = kube_config.FileOrData(status, None, data_key_name=part, base64_file_content=False)  # type: ignore[no-untyped-call]
    return cast("str", found.as_file())  # type: ignore[no-untyped-call]


async def _run_plugin(plugin: Mapping[str, Any], folder: str) -> Mapping[str, Any]:
    """The `status` that a kubeconfig's exec plugin answers.

    The client's own code waits without a limit, and for ever when a plugin writes more to stderr than a pipe holds.

    Raises:
        ConfigException: it failed; with its words.
        OSError: it could not be started.
    """
    command, version = str(plugin["command"]), plugin["apiVersion"]
    if os.sep in command:
        # By kubectl's rule: relative to the kubeconfig, not to where we were started.
        command = os.path.join(folder, command)  # noqa: PTH118 - an absolute command stays as it is
    environment = {**os.environ, **{entry["name"]: entry["value"] for entry in plugin.get("env") or ()}}
    question = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    process = await asyncio.create_subprocess_exec(
        command, *(plugin.get("args") or ()), env={**environment, "KUBERNETES_EXEC_INFO": json.dumps(question)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    name = os.path.basename(command)  # noqa: PTH119
    try:
        async with asyncio.timeout(PLUGIN_SECONDS):
            answer, words = await process.communicate()
    except TimeoutError:
        message = f"the exec plugin {name} gave no answer in {PLUGIN_SECONDS:g} s"
        raise kubernetes_config.ConfigException(message) from None
    finally:
        if process.returncode is None:
            # Its process group, too: a child of the plugin would hold the output open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()
    if process.returncode:
        said = "".join(char if char.isprintable() else " " for char in words.decode(errors="replace")).strip()
        message = f"the exec plugin {name} ended with {process.returncode}: {said[:MAX_PLUGIN_WORDS]}"
        raise kubernetes_config.ConfigException(message)
    return _plugin_status(name, version, answer)


def _plugin_status(name: str, version: str, answer: bytes) -> Mapping[str, Any]:
    try:
        credential = json.loads(answer)
        status = credential["status"]
        answered = credential["apiVersion"]
    except (ValueError, KeyError, TypeError):
        status, answered = None, version
    # The answer is not shown: it may hold a secret.
    if not isinstance(status, dict):
        raise kubernetes_config.ConfigException(f"the exec plugin {name} did not answer with an ExecCredential")
    if answered != version:
        raise kubernetes_config.ConfigException(f"the exec plugin {name} answered as {answered}, not as {version}")
    return status
