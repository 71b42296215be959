"""One node for a test cluster: network, containerd, kubelet, kube-proxy and cluster DNS, in namespaces of their own.

What belongs here: what root on Linux needs beyond the control plane. Everything happens inside the namespaces that
`ClusterProcesses(isolated=True)` made, so the machine's network, mounts and kernel settings stay as they are. The one
thing shared with the machine is the cgroup tree, where the node's part has the name of the cluster's folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from support import cluster_images, cluster_supervisor
from support.cluster_control_plane import COMPONENTS, NODE_ADDRESS, NODE_NAME, ControlPlane
from support.cluster_errors import ClusterError, UnavailableError
from support.cluster_processes import ClusterProcesses, missing_programs, search_path

DNS_ADDRESS = "10.96.0.10"
"""Service address of the cluster's DNS."""
NODE_POD_RANGE = "10.244.0.0/24"
BRIDGE = "node0"
PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
"""Folders of the network plugins: Debian's and the usual one."""
PROGRAMS = ("containerd", "ctr", "runc", "buildah", "debootstrap", "iptables", "conntrack", "ip", "unshare", "nsenter")
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What the kubelet insists on and would set for the whole machine."""


def require_node() -> None:
    """Raise UnavailableError, with all that is missing, when no node can run here."""
    elsewhere = "or point TORIL_TEST_KUBECONFIG at a cluster of your own (for example one made by kind)"
    if sys.platform != "linux" or os.geteuid() != 0:
        raise UnavailableError(f"a node needs root on Linux: run `make e2e` as root on Debian, {elsewhere}")
    missing = missing_programs(*PROGRAMS)
    if not any((folder / "bridge").exists() for folder in PLUGINS):
        missing.append("the CNI plugins")
    if missing:
        raise UnavailableError(f"a node needs {', '.join(missing)}: run `make e2e` as root on Debian, {elsewhere}")


def prepare_namespaces(processes: ClusterProcesses) -> None:
    """Give the fresh namespaces a network that leads nowhere, and folders of their own where programs keep fixed paths.

    Raises:
        ClusterError: a step was refused; says which.
    """
    folder = processes.folder
    run = processes.run
    # /run first: containerd's shims and `ip netns` keep fixed paths there.
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("mkdir", "-p", "/run/netns", "/run/lock")
    # The kubelet's socket for device plugins is there whatever its --root-dir; two that start at once would share it.
    run("mkdir", "-p", "/var/lib/kubelet")
    run("mount", "-t", "tmpfs", "tmpfs", "/var/lib/kubelet")
    for step in (
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"address add {NODE_ADDRESS}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"route add default dev {BRIDGE}",
    ):
        run(_found("ip"), *step.split())
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        run("sh", "-c", f"echo 1 > /proc/sys/{setting}")
    for setting, value in KERNEL_SETTINGS.items():
        shown = folder / "kernel" / setting
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(f"{value}\n")
        run("mount", "--bind", str(shown), f"/proc/sys/{setting}")
    _use_cluster_dns(processes)
    _make_cgroups(folder.name)


def start_containerd(processes: ClusterProcesses) -> None:
    """Start the container runtime and make the pause image known to it."""
    folder = processes.folder
    pause = cluster_images.ensure_pause_image()
    networks = folder / "cni"
    networks.mkdir()
    (networks / "10-bridge.conflist").write_text(json.dumps(_network()))
    configuration = folder / "containerd.toml"
    configuration.write_text(_containerd_configuration(folder, pause))
    environment = {"PATH": search_path()}
    processes.start("containerd", ["containerd", "--config", configuration], environment)
    processes.wait_for(
        lambda: processes.succeeds(*cluster_images.ctr(folder), "version"), "containerd to answer", watch=["containerd"]
    )
    cluster_images.load_images(folder, [pause])
    processes.report("containerd ready")


def start_node(plane: ControlPlane) -> None:
    """Start kubelet, kube-proxy and DNS, and wait until a pod can run and resolve names.

    Raises:
        ClusterError: a part ended or was not ready in time; shows the end of its log.
    """
    processes, environment = plane.processes, {"PATH": search_path()}
    _start_dns(plane)
    kubelet = _write(processes.folder / "kubelet.yaml", _kubelet(plane))
    flags = [
        f"--config={kubelet}",
        f"--kubeconfig={plane.kubeconfig('node')}",
        f"--node-ip={NODE_ADDRESS}",
        f"--hostname-override={NODE_NAME}",
        f"--root-dir={processes.folder / 'kubelet'}",
        f"--cert-dir={processes.folder / 'kubelet-keys'}",
    ]
    processes.start("kubelet", [plane.program, "kubelet", *flags], environment)
    proxy = _write(processes.folder / "kube-proxy.yaml", _kube_proxy(plane))
    processes.start("kube-proxy", [plane.program, "kube-proxy", f"--config={proxy}"], environment)
    watch = [*COMPONENTS, "containerd", "kubelet", "kube-proxy", "coredns"]
    processes.wait_for(lambda: _is_node_ready(plane), "the node to be Ready", watch=watch, limit_seconds=180)
    processes.report(f"node {NODE_NAME} ready")
    probe = f"import urllib.request; urllib.request.urlopen('http://{NODE_ADDRESS}:8181/ready', timeout=2)"
    processes.wait_for(
        lambda: processes.succeeds(sys.executable, "-I", "-c", probe), "DNS to be ready", watch=watch, limit_seconds=180
    )
    processes.report("DNS ready")


def _found(name: str) -> str:
    """The path of a program that may be in a folder of system programs only."""
    return next(str(path) for folder in search_path().split(":") if (path := Path(folder) / name).is_file())


def _use_cluster_dns(processes: ClusterProcesses) -> None:
    """Let what runs inside the namespaces resolve names as a pod would."""
    resolver = processes.folder / "resolv.conf"
    domains = "default.svc.cluster.local svc.cluster.local cluster.local"
    resolver.write_text(f"nameserver {NODE_ADDRESS}\nsearch {domains}\noptions ndots:5\n")
    # The file is often a link into /run, which is empty in here.
    shown = Path("/etc/resolv.conf").resolve()
    processes.run("sh", "-c", f"mkdir -p '{shown.parent}' && touch '{shown}'")
    processes.run("mount", "--bind", str(resolver), str(shown))


def _make_cgroups(name: str) -> None:
    """An own cgroup for all pods, in each hierarchy of cgroup v1 or in the one of v2."""
    top = cluster_supervisor.CGROUPS
    if (top / "cgroup.controllers").exists():
        wanted = "+cpu +cpuset +memory +pids"
        (top / "cgroup.subtree_control").write_text(wanted)
        (top / name).mkdir()
        (top / name / "cgroup.subtree_control").write_text(wanted)
        return
    for hierarchy in top.iterdir():
        if hierarchy.is_symlink() or not (hierarchy / "tasks").exists():
            continue
        (hierarchy / name).mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / setting).exists():
                (hierarchy / name / setting).write_text((hierarchy / setting).read_text())


def _network() -> dict[str, Any]:
    ranges = {"type": "host-local", "subnet": NODE_POD_RANGE, "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        # Addresses in use belong to this cluster alone, so they are kept in its own mounts.
        "ipam": {**ranges, "dataDir": "/run/cni"},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "toril-test", "plugins": [bridge, ports]}


def _containerd_configuration(folder: Path, pause: str) -> str:
    """No AppArmor and no lower OOM scores: neither is to be had in every container or virtual machine."""
    plugins = next(path for path in PLUGINS if (path / "bridge").exists())
    return f"""\
version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{cluster_images.containerd_socket(folder)}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _kubelet(plane: ControlPlane) -> dict[str, Any]:
    keys, folder = plane.certificates, plane.processes.folder
    low = {"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%"}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{cluster_images.containerd_socket(folder)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{folder.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "oomScoreAdj": 0,
        "authentication": {"x509": {"clientCAFile": str(keys.ca)}, "webhook": {"enabled": True}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(keys.certificate("node")),
        "tlsPrivateKeyFile": str(keys.key("node")),
        "podLogsDir": str(folder / "pod-logs"),
        "resolvConf": str(_write_text(folder / "pod-resolv.conf", f"nameserver {NODE_ADDRESS}\n")),
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_ADDRESS],
        "evictionHard": low,
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
    }


def _kube_proxy(plane: ControlPlane) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(plane.kubeconfig("kube-proxy"))},
        "hostnameOverride": NODE_NAME,
        # Zero leaves the machine's connection table as it is.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _start_dns(plane: ControlPlane) -> None:
    """CoreDNS beside the kubelet, and the Service that pods reach it by."""
    port = {"name": "dns", "port": 53}
    ports = [{**port, "protocol": "UDP"}, {**port, "name": "dns-tcp", "protocol": "TCP"}]
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": DNS_ADDRESS, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        "ports": ports,
    }
    folder = plane.processes.folder
    manifest = _write_text(folder / "dns.yaml", yaml.safe_dump_all([service, endpoints]))
    plane.processes.run(plane.program, "kubectl", f"--kubeconfig={plane.kubeconfig('admin')}", "apply", "-f", manifest)
    corefile = f""".:53 {{
    bind {NODE_ADDRESS}
    errors
    ready {NODE_ADDRESS}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {plane.kubeconfig("admin")}
        ttl 1
    }}
    cache 1
}}
"""
    plane.start("coredns", f"-conf={_write_text(folder / 'Corefile', corefile)}")


def _is_node_ready(plane: ControlPlane) -> bool:
    query = "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    kubectl: Sequence[str | Path] = [plane.program, "kubectl", f"--kubeconfig={plane.kubeconfig('admin')}"]
    try:
        return plane.processes.run(*kubectl, "get", "node", NODE_NAME, query).strip() == "True"
    except ClusterError:
        return False


def _write(path: Path, document: dict[str, Any]) -> Path:
    return _write_text(path, yaml.safe_dump(document))


def _write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
