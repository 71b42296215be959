"""The processes that are measured: producers that add what they are asked to, and workers that run until ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from support import ports
from support.redis_server import die_with_parent

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
BULLMQ = ("node", str(FOLDER / "bullmq.mjs"))
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def inherited() -> dict[str, str]:
    """Our environment for others: without settings of Toril, and with compiled modules, as programs have them."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TORIL_") and name != "PYTHONDONTWRITEBYTECODE"
    }


class Process:
    """A child process in a checkout's root; it dies with us."""

    def __init__(
        self, argv: Sequence[str], environment: Mapping[str, str] | None = None, *, root: Path = ROOT, **pipes: Any
    ) -> None:
        self.process = subprocess.Popen(
            argv, cwd=root, env={**inherited(), **(environment or {})}, preexec_fn=die_with_parent, text=True, **pipes
        )

    @property
    def cpu_seconds(self) -> float:
        """CPU that the process has used, all threads, in ticks of the kernel's (10 ms)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Producer(Process):
    """Adds jobs and returns how long that took."""

    def __init__(self, argv: Sequence[str], *, root: Path = ROOT) -> None:
        super().__init__(argv, root=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def add(self, op: str, url: str, queue: str, jobs: int, *, per_call: int = 1) -> dict[str, float]:
        """Add jobs; answers `{seconds, jobs, cpuSeconds}` of the timed part."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"op": op, "url": url, "queue": queue, "jobs": jobs, "perCall": per_call}) + "\n")
        stdin.flush()
        answer: dict[str, float] = json.loads(stdout.readline())
        return answer


StartProducer = Callable[[], Producer]


def bullmq_producer() -> Producer:
    return Producer([*BULLMQ, "add"])


def toril_producer(root: Path = ROOT) -> Producer:
    return Producer([python_of(root), "-m", "benchmarks.toril_add"], root=root)


def python_of(root: Path) -> str:
    """The interpreter of a checkout: of ours the one that runs this, of another its virtual environment's."""
    return sys.executable if root == ROOT else str(root / ".venv" / "bin" / "python")


def bullmq_worker(url: str, queue: str, concurrency: int, kind: str) -> Process:
    return Process([*BULLMQ, "work", url, queue, str(concurrency), kind])


def toril_worker(url: str, queue: str, concurrency: int, root: Path = ROOT) -> Process:
    """A worker as it is deployed: locks, stalled check, retention and metrics as everywhere, and its HTTP port open."""
    environment = {
        "TORIL_REDIS_URL": url,
        "TORIL_QUEUE": queue,
        "TORIL_PROCESSOR": json.dumps({"python": {"module": "benchmarks.jobs"}}),
        "TORIL_CONCURRENCY": str(concurrency),
        "TORIL_HTTP_PORT": str(ports.free_port()),
        "TORIL_POD_NAME": "bench",
    }
    return Process([python_of(root), "-m", "toril.worker"], environment, root=root, stderr=subprocess.DEVNULL)
