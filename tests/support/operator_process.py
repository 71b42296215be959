"""The operator as a process of its own, on a test's cluster.

with operator_process.start(cluster, namespaces=[namespace]) as operator:
    ...
assert operator.exit_code == 0
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from support import ports
from support.cluster import Cluster
from support.folders import run_folder
from support.waiting import wait_until

WORKER_IMAGE = "registry.invalid/toril/worker:test"
"""Never pulled: there is no node."""


class OperatorProcess:
    """One running `python -m toril_operator`; `kill` and `start` play a crash."""

    def __init__(
        self,
        cluster: Cluster,
        *flags: str,
        kubeconfig: Path | None = None,
        is_ready: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster = cluster
        self._flags = flags
        self._environment = environment
        self._kubeconfig = kubeconfig or cluster.kubeconfig
        self._folder = run_folder("toril-operator-")
        self.port = ports.free_port()
        self.process: subprocess.Popen[Any] | None = None
        self.start(is_ready=is_ready)

    def start(self, *, is_ready: bool = True) -> None:
        """Start it and wait until it is ready, or until it answers at all."""
        argv = [
            sys.executable, "-m", "toril_operator", "--worker-image", WORKER_IMAGE, "--http-port", str(self.port),
            "--kubeconfig", str(self._kubeconfig), "--log-level", "debug", *self._flags,
        ]  # fmt: skip
        with self.log_file.open("ab") as log:
            self.process = self._cluster.popen(
                argv, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        codes = (200,) if is_ready else (200, 503)
        wait_until(
            lambda: self._readiness() in codes, f"the operator to be ready ({self.log_file})", timeout_seconds=90
        )

    @property
    def log_file(self) -> Path:
        return self._folder / "log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def records(self, level: str) -> list[dict[str, Any]]:
        """Our own log records of one level; kopf calls every attempt that failed an error."""
        found = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [record for record in found if record["level"] == level and not record["logger"].startswith("kopf.")]

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(30))

    def http(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as reply:
                return int(reply.status), reply.read().decode()
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, problem.read().decode()

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample of `/metrics`; None when it is not there."""
        for line in self.http("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{key}="{text}"' in head for key, text in labels.items()):
                return float(value)
        return None

    def _readiness(self) -> int | None:
        """The answer of `/readyz`; None while no server listens."""
        assert self.process is not None
        assert self.process.poll() is None, f"the operator ended with {self.process.returncode}: {self.log}"
        try:
            return self.http("/readyz")[0]
        except OSError:
            return None


@contextmanager
def start(
    cluster: Cluster,
    *flags: str,
    namespaces: Sequence[str] = (),
    kubeconfig: Path | None = None,
    is_ready: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Iterator[OperatorProcess]:
    """An operator for the block; ended with SIGTERM, which must work, and without a fault of its own in the log."""
    operator = OperatorProcess(
        cluster,
        "--allow-special-addresses",
        f"--namespaces={','.join(namespaces)}",
        *flags,
        kubeconfig=kubeconfig,
        is_ready=is_ready,
        environment=environment,
    )
    try:
        yield operator
        assert operator.process is not None
        if operator.process.poll() is None:
            assert operator.stop() == 0, operator.log
        assert operator.records("error") == [], operator.log
        # kopf logs a watch that has failed with its traceback, and is started anew: no fault of ours.
        ours = [line for line in operator.log.splitlines() if '"logger": "kopf.' not in line]
        assert not any("Traceback" in line for line in ours), operator.log
    except BaseException:
        print(operator.log[-6000:])
        raise
    finally:
        assert operator.process is not None
        if operator.process.poll() is None:
            os.kill(operator.process.pid, signal.SIGKILL)
            operator.process.wait(30)


class SharedOperator:
    """One operator for all namespaces, for the tests that do it no harm: to start one takes seconds of computing."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: OperatorProcess | None = None

    def running_on(self, cluster: Cluster) -> OperatorProcess:
        """The operator, started when it does not run."""
        if self._running is None:
            self._running = self._stack.enter_context(start(cluster))
        return self._running

    def end(self) -> None:
        """End it, if it runs. Fails as the `with` block of `start` does, for what any of its tests brought about."""
        self._running = None
        self._stack.close()
