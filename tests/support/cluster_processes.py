"""The components of one test cluster as processes: started, watched and ended through its supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from support import cluster_supervisor, waiting
from support.cluster_build import say
from support.cluster_errors import ClusterError

T = TypeVar("T")

NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
"""A network, mounts and processes of its own; killing this one process ends everything inside."""

LOG_TAIL_LINES = 25


class ClusterProcesses:
    """One state folder and the processes in it.

    With `isolated` (root on Linux) they live in namespaces of their own, else in a session of their own. Either way
    the kernel and the supervisor end them when this process ends, even by SIGKILL.
    """

    def __init__(self, *, isolated: bool = False) -> None:
        self.started = time.monotonic()
        self.folder = Path(tempfile.mkdtemp(prefix="toril-cluster-"))
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        program = str(Path(cluster_supervisor.__file__).resolve())
        self._process = subprocess.Popen(
            [*(NAMESPACES if isolated else []), sys.executable, "-I", program, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._isolated = isolated
        self._guard = threading.Lock()
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}

    @property
    def init_pid(self) -> int:
        """The supervisor, as seen from outside its namespaces."""
        if not self._isolated:
            return self._process.pid
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(children.read_text().split()[0])

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> int:
        """Start component `name`; its output goes to `logs/<name>.log`. Answers with its process id (inner one)."""
        command = [str(part) for part in argv]
        self._commands[name] = (command, dict(env or {}))
        return self._start(name)

    def restart(self, name: str) -> int:
        """Start a component that was ended by `signal` again, with the same arguments."""
        return self._start(name)

    def run(self, *argv: str | Path) -> str:
        """Run a short command inside the cluster's namespaces; its output, both streams.

        Raises:
            ClusterError: it ended with another code than 0.
        """
        reply = self._ask({"do": "run", "argv": [str(part) for part in argv]})
        if reply["code"] != 0:
            raise ClusterError(f"{' '.join(map(str, argv))} ended with {reply['code']}: {reply['output'].strip()}")
        return str(reply["output"])

    def succeeds(self, *argv: str | Path) -> bool:
        """Whether a short command inside the cluster's namespaces ends with code 0."""
        return bool(self._ask({"do": "run", "argv": [str(part) for part in argv]})["code"] == 0)

    def is_running(self, name: str) -> bool:
        return bool(self._ask({"do": "status", "name": name})["running"])

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a component, to play a fault: SIGKILL, SIGSTOP, SIGCONT, SIGTERM."""
        self._ask({"do": "signal", "name": name, "signal": int(number)})

    def kill(self, name: str) -> None:
        """End a component at once and wait until it is gone."""
        self.signal(name, signal.SIGKILL)
        self.wait_for(lambda: not self.is_running(name), f"{name} to end", watch=())

    def wait_for(self, probe: Callable[[], T], what: str, *, watch: Sequence[str], limit_seconds: float = 60.0) -> T:
        """Call `probe` until its answer is true; fail when a watched component ends or the limit is over."""
        began = time.monotonic()
        while True:
            asked = time.monotonic()
            answer = probe()
            probe_seconds = time.monotonic() - asked
            if answer:
                return answer
            for name in watch:
                status = self._ask({"do": "status", "name": name})
                if not status["running"]:
                    raise ClusterError(f"{name} ended with code {status['code']}{self.log_tail(name)}")
            if time.monotonic() - began > limit_seconds:
                tails = "".join(self.log_tail(name) for name in watch)
                raise ClusterError(f"waited {limit_seconds:g} s for {what}{tails}")
            time.sleep(waiting.pause_after(time.monotonic() - began, probe_seconds))

    def report(self, what: str) -> None:
        """One line with the time since the start."""
        say(f"{time.monotonic() - self.started:5.1f} s  {what}")

    def log_tail(self, name: str) -> str:
        """The end of a component's log with a headline, or nothing when it wrote none."""
        path = self.logs / f"{name}.log"
        text = path.read_text(errors="replace") if path.is_file() else ""
        lines = text.splitlines()[-LOG_TAIL_LINES:]
        if "address already in use" in text:
            lines.append("(another program took the port in the meantime: start again)")
        return "".join([f"\n--- end of {name}.log ---\n", "\n".join(lines)]) if lines else ""

    def stop(self) -> None:
        """End everything and remove the folder (kept with KEEP=1). Safe to repeat."""
        if self._process.stdin is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        cluster_supervisor.remove_state(self.folder)
        if self.folder.exists():
            say(f"kept {self.folder}")

    def _start(self, name: str) -> int:
        command, env = self._commands[name]
        log = str(self.logs / f"{name}.log")
        reply = self._ask({"do": "start", "name": name, "argv": command, "env": env, "log": log})
        return int(reply["pid"])

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._guard:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except OSError as error:
                raise ClusterError(f"the supervisor of {self.folder} is gone: {error}") from error
        if not line:
            raise ClusterError(f"the supervisor of {self.folder} is gone (code {self._process.poll()})")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ClusterError(f"{request}: {reply['error']}")
        return reply


def missing_programs(*names: str) -> list[str]:
    """Those of `names` that are not on the PATH."""
    return [name for name in names if shutil.which(name, path=search_path()) is None]


def search_path() -> str:
    """PATH with the folders of system programs, which not every user's has."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
