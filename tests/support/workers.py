"""Real worker processes for tests: `python -m toril.worker` on a module's text.

```python
with workers.start(redis_url, "email", '''
from toril import Queue
emails = Queue("email")

@emails.task
def send(to: str) -> str:
    return to.upper()
''') as worker:      # ready when this returns: connected, taking jobs
    ...
assert worker.stop() == 0                      # SIGTERM, waits for the drain; also done when the block ends
```

A test that wants to know what happened inside a job can have it append to a file: `workers.TRACE` is a module-level
snippet that defines `trace(word)`, and `worker.trace` reads the words.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import ports
from support.folders import run_folder
from support.redis_server import die_with_parent
from support.waiting import wait_until

TRACE = """
import os

def trace(word):
    fd = os.open(os.environ["TEST_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word}\\n".encode())
    os.close(fd)
"""
FAST_LOCKS = {"lockDuration": 1000, "stalledInterval": 500}
"""Worker options under which a killed worker's jobs are recovered in about two seconds."""


class WorkerProcess:
    """One running `python -m toril.worker`."""

    def __init__(self, argv: list[str], env: Mapping[str, str], folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._log = (folder / f"log-{port}").open("wb")
        self.process = subprocess.Popen(
            argv, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            preexec_fn=die_with_parent,
        )  # fmt: skip

    @property
    def log(self) -> str:
        """Everything the process printed."""
        return (self.folder / f"log-{self.port}").read_text(errors="replace")

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """Its JSON log lines, as far as they are whole."""
        whole, _, _ = self.log.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    @property
    def trace(self) -> list[str]:
        """The words that jobs of workers with this folder have traced, in order."""
        path = self.folder / "trace"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def get(self, path: str, timeout_seconds: float = 20) -> tuple[int, str]:
        """Ask a probe: status and body; status 0 = no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout_seconds) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, timeout_seconds: float = 60) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}: {self.log}"
            return self.get("/readyz")[0] == 200

        wait_until(is_ready, "the worker to be ready", timeout_seconds=timeout_seconds)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_seconds: float = 60) -> int:
        """Wait for its end; returns the exit code (negative: the signal)."""
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end in {timeout_seconds:g} s: {self.log}") from None

    def stop(self, timeout_seconds: float = 60) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_seconds)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()


def spawn(
    redis_url: str,
    queue: str,
    module: str | Path,
    *,
    concurrency: int = 1,
    options: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> WorkerProcess:
    """Start a worker and return at once.

    Args:
        module: source text, or the path of a file.
        options: `TORIL_WORKER_OPTIONS`, such as `FAST_LOCKS`.
        env: more variables, or other values than the ones made here.
        folder: where module, log and trace go; give the same to several workers to have one trace.
    """
    folder = folder or run_folder("toril-worker-")
    port = ports.free_port()
    text = module.read_text() if isinstance(module, Path) else module
    (folder / "worker_jobs.py").write_text(text)
    variables = environment(redis_url, queue, folder) | {
        "TORIL_CONCURRENCY": str(concurrency),
        "TORIL_WORKER_OPTIONS": json.dumps(options or {}),
        "TORIL_HTTP_PORT": str(port),
        "TORIL_POD_NAME": f"worker-{port}",
        **(env or {}),
    }
    return WorkerProcess([sys.executable, "-m", "toril.worker"], variables, folder, port)


def environment(redis_url: str, queue: str, folder: Path) -> dict[str, str]:
    """The environment of a worker of the module `worker_jobs` in `folder`, without probes."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TORIL_")},
        "TORIL_REDIS_URL": redis_url,
        "TORIL_QUEUE": queue,
        "TORIL_PROCESSOR": json.dumps({"python": {"module": "worker_jobs"}}),
        "TORIL_HTTP_PORT": "0",
        "TEST_TRACE": str(folder / "trace"),
    }


@contextmanager
def start(redis_url: str, queue: str, module: str | Path, **how: Any) -> Iterator[WorkerProcess]:
    """Start a worker (see `spawn`), wait until it is ready, and drain it at the end of the block."""
    worker = spawn(redis_url, queue, module, **how)
    try:
        worker.wait_ready()
        yield worker
        if worker.process.poll() is None:
            assert worker.stop() == 0, worker.log
    finally:
        worker.close()
