"""A signal is obeyed whenever it comes, from the first instruction of a worker's process on; orphans are reaped."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import soak, workers
from support.engine import EngineQueue, open_queue
from support.redis_server import die_with_parent
from support.waiting import wait_until

MODULE = """
import os, subprocess
from toril import Queue

orphans = Queue("orphans")

@orphans.task
def leaves_orphans() -> int:
    subprocess.run(["sh", "-c", "for number in 1 2 3; do sleep 0.05 & done"], check=True)
    return subprocess.run(["sh", "-c", "sleep 0.1; exit 7"]).returncode

@orphans.task
def count_zombies() -> int:
    states = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    states.append(stat.read().rsplit(")", 1)[1].split()[0])
            except OSError:
                pass
    return states.count("Z")
"""
DELAYS_MS = (0, 2, 5, 20, 50, 100, 200, 500)
COMMANDS = {
    "python": [sys.executable, "-m", "toril.worker"],
    "toril": [str(Path(sys.executable).with_name("toril")), "worker", "run", "worker_jobs"],
}
NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
WAYS: dict[str, list[str]] = {
    "not process 1": [],
    "under tini, not process 1": ["tini", "-s", "--"],
    "process 1": NAMESPACE,
    "under tini, which is process 1": [*NAMESPACE, "tini", "-s", "--"],
}


@functools.cache
def why_not(way: str) -> str:
    """Why a way cannot be gone here; empty = it can."""
    if "tini" in way and not shutil.which("tini"):
        return "tini is not installed: `make setup` as root"
    if "process 1" in way and "not" not in way and subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        return "this user may not make PID namespaces"
    return ""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> list[str]:
    if why := why_not(request.param):
        pytest.skip(why)
    return WAYS[request.param]


@contextmanager
def started(
    argv: list[str], environment: Mapping[str, str], folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process, and the process id that signals for it go to, there as process 1 is: once that can wait for them."""
    with (folder / f"log-{time.monotonic_ns()}").open("wb") as log:
        process = subprocess.Popen(
            argv, env=dict(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        first = process.pid
        if argv[0] == "unshare":
            first = wait_until(lambda: first_process_of(process.pid), "process 1 to block signals", timeout_seconds=60)
        yield process, first
    finally:
        process.kill()
        process.wait()


def first_process_of(unshare: int) -> int:
    """Process 1 of the namespace that `unshare` has made, as it is called here; 0 = it would still lose signals."""
    for first in children_of(unshare):
        status = Path(f"/proc/{first}/status").read_text()
        blocked = int(status.split("SigBlk:")[1].split()[0], 16)
        # `unshare` blocks signals, too, until its copy has become the program. `sigwait` shows none as blocked.
        if "Name:\tunshare\n" not in status and (blocked >> (signal.SIGTERM - 1) & 1 or children_of(first)):
            return first
    return 0


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def code_after_signal(argv: list[str], environment: Mapping[str, str], folder: Path, delay_ms: int) -> int:
    with started(argv, environment, folder) as (process, first):
        moment = time.monotonic() + delay_ms / 1000
        wait_until(lambda: time.monotonic() >= moment, "the moment of the signal", interval_seconds=0.0005)
        os.kill(first, signal.SIGTERM)
        return process.wait(60)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("count", soak.lengths(3, 20))
def test_a_signal_is_obeyed_whenever_it_comes(
    redis_url: str, tmp_path: Path, way: list[str], command: str, count: int
) -> None:
    """Workers that have not heard it would go on for ever: nothing else ends them."""
    (tmp_path / "worker_jobs.py").write_text(MODULE)
    environment = workers.environment(redis_url, "orphans", tmp_path)

    def code(delay_ms: int) -> int:
        return code_after_signal([*way, *COMMANDS[command]], environment, tmp_path, delay_ms)

    with ThreadPoolExecutor(4) as pool:
        codes = {delay_ms: list(pool.map(code, [delay_ms] * count)) for delay_ms in DELAYS_MS}
    # 0: it drained, or had nothing to drain; else the signal ended it before Python had begun.
    assert set().union(*codes.values()) <= {0, -signal.SIGTERM, 128 + signal.SIGTERM}, codes


@pytest.fixture
async def orphans(redis_url: str) -> AsyncIterator[EngineQueue]:
    async with open_queue(redis_url, "orphans") as queue:
        yield queue


@pytest.mark.parametrize("way", ["process 1", "under tini, which is process 1"], indirect=True)
async def test_orphans_are_reaped_and_exit_codes_reach_the_jobs_that_wait(
    orphans: EngineQueue, redis_url: str, tmp_path: Path, way: list[str]
) -> None:
    (tmp_path / "worker_jobs.py").write_text(MODULE)
    environment = workers.environment(redis_url, "orphans", tmp_path) | {"TORIL_CONCURRENCY": "4"}

    async def result_of(name: str) -> str:
        job_id = await orphans.add(name, {})
        return wait_until(lambda: orphans.hash(job_id).get("returnvalue", ""), f"the end of {name}", timeout_seconds=60)

    with started([*way, *COMMANDS["python"]], environment, tmp_path) as (process, first):
        for _ in range(5):
            assert await result_of("leaves-orphans") == "7"
        zombies = ""
        while zombies != "0":
            zombies = await result_of("count-zombies")
        os.kill(first, signal.SIGTERM)
        assert process.wait(60) == 0
