"""The control plane of a test cluster: etcd, API server, controller manager, scheduler."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from support import ports
from support.cluster_certs import SERVICE_ADDRESS, ClusterCertificates
from support.cluster_processes import ClusterProcesses

SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"
NODE_ADDRESS = "10.245.0.1"
"""The node's address on its bridge, inside the cluster's own network."""
NODE_NAME = "node1"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where a running control plane answers and who may talk to it."""

    processes: ClusterProcesses
    program: Path
    certificates: ClusterCertificates
    port: int
    with_node: bool
    etcd: str
    """Address of etcd, `http://…`; it has no authentication."""
    audit_log: Path | None
    """One JSON event a line (who, verb, object), when asked for."""

    @property
    def address(self) -> str:
        return NODE_ADDRESS if self.with_node else "127.0.0.1"

    @property
    def server(self) -> str:
        """Address of the API server, `https://…`."""
        return f"https://{self.address}:{self.port}"

    def start(self, name: str, *flags: str) -> None:
        self.processes.start(name, [self.program, name, *flags])

    def is_answered(self, path: str) -> bool:
        """Whether GET `path` answers 200 to the admin. With a node the question is asked inside its network."""
        if self.with_node:
            flag = f"--kubeconfig={self.kubeconfig('admin')}"
            return self.processes.succeeds(self.program, "kubectl", flag, "get", "--raw", path)
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        context.load_cert_chain(self.certificates.certificate("admin"), self.certificates.key("admin"))
        try:
            with urllib.request.urlopen(self.server + path, context=context, timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of one certificate's holder; `admin` has all rights (`system:masters`)."""
        return self.certificates.kubeconfig(name, self.server)


def start_control_plane(
    processes: ClusterProcesses, program: Path, *, with_node: bool = False, audit: bool = False
) -> ControlPlane:
    """Start the four components in order and wait until pods can be created in namespace `default`.

    Args:
        with_node: listen on all addresses of the cluster's own network and hand out pod addresses; else loopback only.
        audit: write every request's metadata to a file.

    Raises:
        ClusterError: a component ended or was not ready in time; shows the end of its log.
    """
    etcd_port, peer_port, port, controllers_port, scheduler_port = (ports.free_port() for _ in range(5))
    audit_log = processes.folder / "audit.log" if audit else None
    plane = ControlPlane(
        processes,
        program,
        _issue(processes.folder / "keys"),
        port,
        with_node,
        f"http://127.0.0.1:{etcd_port}",
        audit_log,
    )
    _start_etcd(plane, etcd_port, peer_port)
    _start_api_server(plane, etcd_port)
    processes.wait_for(
        lambda: plane.is_answered("/readyz"), "the API server to be ready", watch=COMPONENTS[:2], limit_seconds=180
    )
    processes.report(f"kube-apiserver ready on {plane.server}")
    _start_controller_manager(plane, controllers_port)
    _start_scheduler(plane, scheduler_port)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    processes.wait_for(
        lambda: plane.is_answered(account), "the ServiceAccount `default`", watch=COMPONENTS, limit_seconds=180
    )
    processes.report("control plane ready")
    return plane


def _issue(folder: Path) -> ClusterCertificates:
    keys = ClusterCertificates(folder)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    keys.issue("apiserver", "kube-apiserver", hosts=[*names, "127.0.0.1", NODE_ADDRESS, SERVICE_ADDRESS])
    keys.issue("apiserver-to-kubelet", "kube-apiserver-kubelet-client", organization="system:masters")
    keys.issue("admin", "admin", organization="system:masters")
    for component in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        keys.issue(component, f"system:{component}")
    keys.issue("node", f"system:node:{NODE_NAME}", organization="system:nodes", hosts=[NODE_NAME, NODE_ADDRESS])
    keys.issue_token_keys()
    return keys


def _start_etcd(plane: ControlPlane, port: int, peer_port: int) -> None:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    plane.start(
        "etcd",
        f"--data-dir={plane.processes.folder / 'etcd'}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    )
    plane.processes.report(f"etcd started on port {port}")


def _start_api_server(plane: ControlPlane, etcd_port: int) -> None:
    keys, folder = plane.certificates, plane.processes.folder
    flags = [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--secure-port={plane.port}",
        f"--bind-address={'0.0.0.0' if plane.with_node else '127.0.0.1'}",
        f"--advertise-address={plane.address}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={keys.ca}",
        f"--kubelet-client-certificate={keys.certificate('apiserver-to-kubelet')}",
        f"--kubelet-client-key={keys.key('apiserver-to-kubelet')}",
        f"--cert-dir={folder / 'apiserver'}",
        f"--client-ca-file={keys.ca}",
        f"--tls-cert-file={keys.certificate('apiserver')}",
        f"--tls-private-key-file={keys.key('apiserver')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={keys.key('service-accounts')}",
        f"--service-account-key-file={keys.folder / 'service-accounts.pub'}",
    ]
    if not plane.with_node:
        # A loopback address is refused as an endpoint of the Service `kubernetes`, and no pod could use it.
        flags.append("--endpoint-reconciler-type=none")
    if plane.audit_log is not None:
        policy = folder / "audit-policy.yaml"
        rules = {"omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}
        policy.write_text(yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", **rules}))
        flags += [f"--audit-policy-file={policy}", f"--audit-log-path={plane.audit_log}"]
    plane.start("kube-apiserver", *flags)


def _start_controller_manager(plane: ControlPlane, port: int) -> None:
    keys, kubeconfig = plane.certificates, plane.kubeconfig("kube-controller-manager")
    flags = [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        f"--root-ca-file={keys.ca}",
        f"--service-account-private-key-file={keys.key('service-accounts')}",
    ]
    if plane.with_node:
        flags += ["--allocate-node-cidrs", f"--cluster-cidr={POD_RANGE}"]
    plane.start("kube-controller-manager", *flags)
    plane.processes.report("kube-controller-manager started")


def _start_scheduler(plane: ControlPlane, port: int) -> None:
    kubeconfig = plane.kubeconfig("kube-scheduler")
    plane.start(
        "kube-scheduler",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
    )
    plane.processes.report("kube-scheduler started")
