"""Start a test cluster and stay until Ctrl-C: what `make cluster` runs.

As root on Linux it has a node, elsewhere it is a control plane without one. `KUBECTL` in its folder is kubectl on it.
"""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path

from support import cluster_node
from support.cluster import Cluster, control_plane, node_cluster
from support.cluster_build import say
from support.cluster_errors import UnavailableError

KUBECTL = "kubectl"


def write_kubectl(cluster: Cluster, folder: Path) -> Path:
    """A script that is kubectl on this cluster, from any folder."""
    enter = [*cluster.enter, '--wdns="$PWD"'] if cluster.enter else []
    command = [*enter, "env", f"KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}", shlex.quote(str(cluster.program))]
    script = folder / KUBECTL
    script.write_text(f'#!/bin/sh\nexec {" ".join(command)} kubectl "$@"\n')
    script.chmod(0o755)
    return script


def start(*, with_node: bool) -> Cluster:
    """A cluster, with a node where one can run and is wanted."""
    if with_node:
        try:
            cluster_node.require_node()
        except UnavailableError as error:
            say(f"without a node, pods stay Pending: {error}")
        else:
            return node_cluster()
    return control_plane()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m support.cluster_command", description=__doc__)
    parser.add_argument("--no-node", action="store_true", help="a control plane only, also as root")
    arguments = parser.parse_args()
    # SIGTERM ends the cluster in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with start(with_node=not arguments.no_node) as cluster:
            if cluster.plane is None:
                say(f"TORIL_TEST_KUBECONFIG is set: nothing to start, use kubectl with {cluster.kubeconfig}")
                return
            folder = cluster.plane.processes.folder
            say(f"ready; logs are in {cluster.plane.processes.logs}")
            say(f"use it: {write_kubectl(cluster, folder)} get pods --all-namespaces")
            if cluster.enter:
                say(f"run something inside its network: {shlex.join(cluster.enter)} COMMAND")
            else:
                say(f"or with a kubectl of your own: KUBECONFIG={cluster.kubeconfig}")
            say("Ctrl-C ends it")
            signal.pause()
    except KeyboardInterrupt:
        say("ended")


if __name__ == "__main__":
    main()
