"""A real Kubernetes for tests: `control_plane()` for any user, `node_cluster()` with a node for root on Linux.

    with control_plane() as cluster:
        cluster.kubectl("get", "namespaces")

Everything runs from programs compiled here (see tests/cluster); nothing is downloaded at run time, nothing outlives
the test process. With TORIL_TEST_KUBECONFIG set, both functions answer with that cluster instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from support import cluster_images, cluster_node
from support.cluster_build import ensure_cluster_program, ensure_helm
from support.cluster_control_plane import ControlPlane, start_control_plane
from support.cluster_errors import ClusterError
from support.cluster_processes import ClusterProcesses
from support.redis_server import die_with_parent


class Cluster:
    """A running cluster and how to talk to it. Ends with its `with` block."""

    def __init__(self, kubeconfig: Path, plane: ControlPlane | None = None, *, has_node: bool) -> None:
        self.kubeconfig = kubeconfig
        """All rights, certificates embedded."""
        self.plane = plane
        """Its parts, for tests that look at or break them; None for a cluster that we did not start."""
        self.has_node = has_node
        """Whether pods run; without a node they stay Pending."""
        self.program = plane.program if plane else ensure_cluster_program()
        """Every component and kubectl in one file; the first argument picks one."""
        self.enter = enter_network(plane.processes) if plane is not None and plane.with_node else []
        """What goes before a command that shall run inside the cluster's network; nothing where it is the machine's."""

    @property
    def server(self) -> str:
        """Address of the API server, `https://…`; with a node it answers only inside (see `run`)."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        return str(config["clusters"][0]["cluster"]["server"])

    @property
    def processes(self) -> ClusterProcesses:
        """The components, for fault tests. Raises AssertionError for a cluster that we did not start."""
        assert self.plane is not None, "this cluster was not started here"
        return self.plane.processes

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 180) -> str:
        """Output of `kubectl ARGS`, with `check=False` both streams of a command that may fail.

        Raises:
            ClusterError: it failed; the message is what kubectl wrote.
        """
        return self._output([str(self.program), "kubectl", *args], stdin, check, timeout)

    def apply(self, *manifests: Mapping[str, Any] | str, namespace: str = "") -> str:
        """Apply manifests (mappings or YAML text) from the client side, as a user does; kubectl's output."""
        texts = [manifest if isinstance(manifest, str) else yaml.safe_dump(manifest) for manifest in manifests]
        where = ["-n", namespace] if namespace else []
        return self.kubectl("apply", *where, "-f", "-", stdin="\n---\n".join(texts))

    def get(self, *args: str) -> Any:
        """The decoded JSON of `kubectl get ARGS -o json`."""
        return json.loads(self.kubectl("get", *args, "-o", "json"))

    def helm(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Output of `helm ARGS`; like `kubectl`."""
        return self._output([str(ensure_helm()), *args], stdin, check, timeout)

    def run(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, stdin: str | None = None,
        cwd: Path | None = None, timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command where the cluster is reachable: inside its network, with its DNS, or plainly.

        KUBECONFIG is set. The exit code is not looked at.
        """
        where = self._argv(argv, cwd)
        return subprocess.run(
            where, env=self._env(env), input=stdin, cwd=cwd, timeout=timeout, capture_output=True, text=True
        )

    def popen(
        self, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:  # fmt: skip
        """Start a command like `run` and do not wait. Signals reach it itself; it ends with the thread that started it.

        Args:
            options: as for `subprocess.Popen` (`stdout`, `text`, …).
        """
        return subprocess.Popen(
            self._argv(argv, cwd), env=self._env(env), cwd=cwd, preexec_fn=die_with_parent, **options
        )

    def namespace_name(self, prefix: str = "test") -> str:
        """A name that is not in use; nothing is created."""
        return f"{prefix}-{uuid.uuid4().hex[:8]}"

    def create_namespace(self, prefix: str = "test", labels: Mapping[str, str] | None = None) -> str:
        """A new namespace, ready for pods; its name."""
        name = self.namespace_name(prefix)
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}})
        self.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
        return name

    def stop(self) -> None:
        """End the cluster and remove its folder (kept with KEEP=1). A cluster that we did not start is left alone."""
        if self.plane is not None:
            self.plane.processes.stop()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _argv(self, argv: Sequence[str | Path], cwd: Path | None) -> list[str]:
        # Entering mounts moves to their root: the working directory is set again.
        enter = [*self.enter, f"--wdns={(cwd or Path()).resolve()}"] if self.enter else []
        return [*enter, *(str(part) for part in argv)]

    def _env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        ours = {"KUBECONFIG": str(self.kubeconfig)}
        if self.plane is not None:
            # What kubectl remembers of a server is for this one: the next may have its address.
            ours["KUBECACHEDIR"] = str(self.plane.processes.folder / "kubectl-cache")
        return {**os.environ, **ours, **(env or {})}

    def _output(self, argv: Sequence[str], stdin: str | None, check: bool, timeout: float) -> str:
        done = self.run(argv, stdin=stdin, timeout=timeout)
        if done.returncode == 0:
            return done.stdout
        if check:
            shown = " ".join([Path(argv[0]).name, *argv[1:]])
            raise ClusterError(f"{shown} ended with {done.returncode}: {(done.stderr + done.stdout).strip()}")
        return done.stdout + done.stderr


def control_plane(*, audit: bool = False) -> Cluster:
    """An API server on loopback with its controllers and scheduler, no node: pods stay Pending.

    Args:
        audit: write who asked for what to `cluster.plane.audit_log`.

    Raises:
        UnavailableError: the programs cannot be built here.
        ClusterError: it did not start; shows why.
    """
    if existing := existing_cluster():
        return existing
    program = ensure_cluster_program()
    processes = ClusterProcesses()
    try:
        plane = start_control_plane(processes, program, audit=audit)
    except BaseException:
        processes.stop()
        raise
    return Cluster(plane.kubeconfig("admin"), plane, has_node=False)


def node_cluster(*, audit: bool = False) -> Cluster:
    """A control plane with one node, cluster DNS and Services, in namespaces of its own. Root on Linux only.

    Its network is reachable by `run` and `popen` (and so `kubectl` and `helm`) only. Images: `cluster_images`.

    Args:
        audit: as for `control_plane`.

    Raises:
        UnavailableError: not root, not Linux, or a program is missing; the message names all of them.
        ClusterError: it did not start; shows why.
    """
    if existing := existing_cluster():
        return existing
    cluster_node.require_node()
    program = ensure_cluster_program()
    cluster_images.ensure_pause_image()
    processes = ClusterProcesses(isolated=True)
    try:
        cluster_node.prepare_namespaces(processes)
        processes.report("namespaces ready")
        cluster_node.start_containerd(processes)
        plane = start_control_plane(processes, program, with_node=True, audit=audit)
        cluster_node.start_node(plane)
    except BaseException:
        processes.stop()
        raise
    return Cluster(plane.kubeconfig("admin"), plane, has_node=True)


def existing_cluster() -> Cluster | None:
    """The cluster that TORIL_TEST_KUBECONFIG names, if set."""
    path = os.environ.get("TORIL_TEST_KUBECONFIG")
    return Cluster(Path(path).resolve(), has_node=True) if path else None


def enter_network(processes: ClusterProcesses) -> list[str]:
    """What to put before a command so that it runs in the cluster's network and mounts, as this machine's process."""
    return ["nsenter", "--net", "--mount", f"--target={processes.init_pid}"]
