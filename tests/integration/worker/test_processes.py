"""Workers as processes: how they drain, what is left when they are killed, what they show, how they refuse to start."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import ports, workers
from support.engine import EngineQueue, open_queue
from support.redis_server import die_with_parent
from support.waiting import wait_until
from toril.telemetry import zone_data

MODULE = (
    """
import asyncio, json, os, signal, time
from pathlib import Path
from toril import Job, Queue
"""
    + workers.TRACE
    + """
jobs = Queue("jobs")

def is_gone(path):
    return not Path(path).exists()

@jobs.task
async def until_gone(path: str, *, job: Job = Job.current()) -> str:
    trace(f"start-{job.id}")
    try:
        while not is_gone(path):
            await asyncio.sleep(0.01)
    finally:
        trace(f"end-{job.id}")
    return "done"

@jobs.task
def until_gone_in_thread(path: str, *, job: Job = Job.current()) -> str:
    trace(f"start-{job.id}")
    while not is_gone(path):
        time.sleep(0.01)
    trace(f"end-{job.id}")
    return "done"

@jobs.task
async def dies_once(*, job: Job = Job.current()) -> int:
    trace(f"start-{job.id}")
    if job.record.attempts_started == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job.attempt

@jobs.task
async def never_ends() -> None:
    trace("start-1")
    while True:
        try:
            await asyncio.to_thread(time.sleep, 60)
        except asyncio.CancelledError:
            pass

@jobs.task
async def quick() -> str:
    return "quick"

@jobs.task
async def fails() -> None:
    raise ValueError("with a reason")
"""
)


@pytest.fixture
async def jobs(redis_url: str) -> AsyncIterator[EngineQueue]:
    async with open_queue(redis_url, "jobs") as queue:
        yield queue


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file; jobs run until it is gone."""
    path = tmp_path / "gate"
    path.touch()
    return path


def open_gate(gate: Path) -> None:
    gate.unlink()


@pytest.mark.requirement("T02", "T04")
@pytest.mark.parametrize("name", ["until-gone", "until-gone-in-thread"])
async def test_a_told_worker_takes_nothing_more_and_finishes_what_runs(
    jobs: EngineQueue, redis_url: str, gate: Path, name: str
) -> None:
    await jobs.add(name, {"path": str(gate)})
    with workers.start(redis_url, "jobs", MODULE, concurrency=2) as worker:
        wait_until(lambda: "start-1" in worker.trace, "the job to run")
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.get("/readyz") == (503, "draining\n"), "the drain")
        # The signals after the first change nothing.
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGINT)
        await jobs.add("quick", {})
        assert worker.get("/livez")[0] == 200
        assert jobs.places() == {"active": ["1"], "wait": ["2"]}
        open_gate(gate)
        assert worker.wait() == 0
    assert jobs.places() == {"completed": ["1"], "wait": ["2"]}
    assert worker.trace == ["start-1", "end-1"]
    assert "stalled" not in jobs.event_names()


@pytest.mark.requirement("T03")
@pytest.mark.parametrize("name", ["until-gone", "until-gone-in-thread"])
async def test_what_does_not_end_in_time_goes_back_uncharged(
    jobs: EngineQueue, redis_url: str, gate: Path, tmp_path: Path, name: str
) -> None:
    await jobs.add(name, {"path": str(gate)}, attempts=3)
    with workers.start(redis_url, "jobs", MODULE, env={"TORIL_DRAIN_SECONDS": "0"}, folder=tmp_path) as first:
        wait_until(lambda: "start-1" in first.trace, "the job to run")
        with workers.start(redis_url, "jobs", MODULE, folder=tmp_path) as second:
            assert first.stop() == 0, first.log
            wait_until(lambda: first.trace.count("start-1") == 2, "the other worker to start it")
            assert jobs.hash("1").get("atm") is None
            open_gate(gate)
            wait_until(lambda: jobs.places() == {"completed": ["1"]}, "its end")
            assert jobs.hash("1")["pb"] == f"worker-{second.port}"
    assert (jobs.hash("1")["atm"], jobs.hash("1")["ats"], "stc" in jobs.hash("1")) == ("1", "2", False)
    assert "job given back: not done when the worker had to stop" in [line["event"] for line in first.log_lines]


async def test_a_job_that_refuses_to_end_does_not_hold_the_process(jobs: EngineQueue, redis_url: str) -> None:
    await jobs.add("never-ends", {})
    with workers.start(redis_url, "jobs", MODULE, env={"TORIL_DRAIN_SECONDS": "0"}) as worker:
        wait_until(lambda: "start-1" in worker.trace, "the job to run")
        assert worker.stop() == 0, worker.log
    assert jobs.places() == {"wait": ["1"]}


@pytest.mark.requirement("Z-02")
async def test_jobs_outlive_the_application(jobs: EngineQueue, redis_url: str, gate: Path, tmp_path: Path) -> None:
    await jobs.add("fails", {}, attempts=3, backoff={"type": "exponential", "delay": 300})
    for _ in range(5):
        await jobs.add("until-gone", {"path": str(gate)})
    with workers.start(redis_url, "jobs", MODULE, concurrency=2, folder=tmp_path) as first:
        wait_until(lambda: len(jobs.places().get("active", [])) == len(first.trace) == 2, "two jobs to run")
        first.signal(signal.SIGTERM)
        wait_until(lambda: first.get("/readyz") == (503, "draining\n"), "the drain")
        open_gate(gate)
        assert first.wait() == 0
    assert len(jobs.places()["completed"]) == 2
    assert first.trace[:2] == ["start-2", "start-3"], "no more than two at a time"
    with workers.start(redis_url, "jobs", MODULE, concurrency=3, folder=tmp_path):
        wait_until(lambda: len(jobs.places().get("completed", [])) == 5, "the rest")
        wait_until(lambda: jobs.places().get("failed") == ["1"], "the last attempt")
    job = jobs.hash("1")
    assert (job["atm"], job["delay"]) == ("3", "0")
    assert len(json.loads(job["stacktrace"])) == 3
    assert int(job["finishedOn"]) - int(job["timestamp"]) >= 300 + 600


async def test_an_idle_worker_leaves_at_once(redis_url: str) -> None:
    """It does not wait for the end of its wait for a wake-up, which lasts 10 s."""
    with workers.start(redis_url, "jobs", MODULE, options={"drainDelay": 60}) as worker:
        assert worker.stop() == 0
        stopped = re.fullmatch(r"stopped after (\d+\.\d) s", worker.log_lines[-1]["event"])
        assert stopped is not None
        assert float(stopped[1]) < 9


@pytest.mark.requirement("T01", "T12")
async def test_jobs_of_a_killed_worker_are_done_by_another(
    jobs: EngineQueue, redis_url: str, gate: Path, tmp_path: Path
) -> None:
    for _ in range(5):
        await jobs.add("until-gone", {"path": str(gate)})
    how: dict[str, Any] = {"concurrency": 5, "options": workers.FAST_LOCKS, "folder": tmp_path}
    with workers.start(redis_url, "jobs", MODULE, **how) as first:
        wait_until(lambda: len(first.trace) == 5, "all jobs to run")
        first.kill()
        open_gate(gate)
        with workers.start(redis_url, "jobs", MODULE, **how) as second:
            wait_until(lambda: len(jobs.places().get("completed", [])) == 5, "the recovery")
        assert sorted(second.trace[5:]) == sorted([f"{word}-{job}" for job in range(1, 6) for word in ("start", "end")])
    for job in "12345":
        assert (jobs.hash(job)["atm"], jobs.hash(job)["ats"]) == ("1", "2")
        # Of several jobs none is charged with the end of their worker.
        assert "stc" not in jobs.hash(job)


@pytest.mark.requirement("T08", "T11")
async def test_a_job_that_kills_its_worker_is_done_at_the_second_start(
    jobs: EngineQueue, redis_url: str, tmp_path: Path
) -> None:
    await jobs.add("dies-once", {})
    how: dict[str, Any] = {"options": workers.FAST_LOCKS, "folder": tmp_path}
    first = workers.spawn(redis_url, "jobs", MODULE, **how)
    try:
        assert first.wait() == -signal.SIGKILL
    finally:
        first.close()
    with workers.start(redis_url, "jobs", MODULE, **how):
        wait_until(lambda: jobs.places() == {"completed": ["1"]}, "the second start")
    # What it did before its worker died, it has done twice.
    assert first.trace == ["start-1", "start-1"]
    assert jobs.hash("1")["returnvalue"] == "1", "the start that nobody lived to end is no attempt"
    assert (jobs.hash("1")["ats"], jobs.hash("1")["stc"]) == ("2", "1")


@pytest.mark.requirement("T05")
async def test_a_worker_that_was_asleep_too_long_changes_nothing(
    jobs: EngineQueue, redis_url: str, gate: Path, tmp_path: Path
) -> None:
    await jobs.add("until-gone", {"path": str(gate)})
    how: dict[str, Any] = {"options": workers.FAST_LOCKS, "folder": tmp_path}
    with workers.start(redis_url, "jobs", MODULE, **how) as first:
        wait_until(lambda: "start-1" in first.trace, "the job to run")
        first.signal(signal.SIGSTOP)
        with workers.start(redis_url, "jobs", MODULE, **how) as second:
            wait_until(lambda: first.trace.count("start-1") == 2, "the other worker to have it")
            open_gate(gate)
            wait_until(lambda: jobs.places() == {"completed": ["1"]}, "its end")
            first.signal(signal.SIGCONT)
            wait_until(lambda: "job lost" in first.log, "the first worker to notice")
            assert jobs.hash("1")["pb"] == f"worker-{second.port}"
    assert jobs.event_names().count("completed") == 1
    assert jobs.hash("1")["atm"] == "1"


@pytest.mark.requirement("Z-48")
async def test_probes_and_metrics(jobs: EngineQueue, redis_url: str) -> None:
    with workers.start(redis_url, "jobs", MODULE, concurrency=3) as worker:
        assert worker.get("/livez") == (200, "ok\n")
        for name in ("quick", "quick", "fails"):
            await jobs.add(name, {})
        await jobs.add("fails", {}, attempts=2)
        wait_until(lambda: len(jobs.places().get("failed", [])) == 2, "all ends")

        def metrics() -> dict[str, float]:
            lines = [line for line in worker.get("/metrics")[1].splitlines() if not line.startswith("#")]
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

        wait_until(lambda: metrics().get('toril_worker_slots{queue="jobs",state="busy"}') == 0, "the last reply")
        found = metrics()
        assert f"time zones: release {zone_data.describe()}" in worker.log
    expected = {
        'toril_attempts_total{job_name="quick",queue="jobs"}': 2,
        'toril_attempts_total{job_name="fails",queue="jobs"}': 3,
        'toril_jobs_finished_total{job_name="quick",outcome="completed",queue="jobs"}': 2,
        'toril_jobs_finished_total{job_name="fails",outcome="failed",queue="jobs"}': 1,
        'toril_jobs_finished_total{job_name="fails",outcome="exhausted",queue="jobs"}': 1,
        'toril_job_run_seconds_count{job_name="quick",outcome="completed",queue="jobs"}': 2,
        'toril_job_wait_seconds_count{job_name="fails",queue="jobs"}': 2,
        'toril_worker_slots{queue="jobs",state="idle"}': 3,
        'toril_job_schedulers_stuck{queue="jobs"}': 0,
        'toril_build_info{queue="jobs",version="0.1.0"}': 1,
    }
    assert {name: found.get(name) for name in expected} == expected


async def test_livez_does_not_follow_redis(tmp_path: Path) -> None:
    worker = workers.spawn(f"redis://127.0.0.1:{ports.free_port()}", "jobs", MODULE, folder=tmp_path)
    try:
        wait_until(lambda: worker.get("/livez")[0] == 200, "the probes")
        assert worker.get("/readyz") == (503, "Redis was not reached yet\n")
        wait_until(lambda: "Redis fails" in worker.log, "a line about Redis")
        assert worker.stop() == 0
    finally:
        worker.close()


async def test_the_log_has_one_json_line_a_failure_and_no_password(
    jobs: EngineQueue, redis_url: str, tmp_path: Path
) -> None:
    env = {"TORIL_NAMESPACE": "team", "TORIL_REDIS_PASSWORD": ""}
    with workers.start(redis_url, "jobs", MODULE, env=env, folder=tmp_path) as worker:
        await jobs.add("fails", {})
        wait_until(lambda: "job failed" in worker.log, "the failure")
        (line,) = [line for line in worker.log_lines if line["event"] == "job failed"]
    assert line["level"] == "warning"
    assert (line["job_id"], line["job_name"], line["attempt"], line["outcome"]) == ("1", "fails", 1, "failed")
    assert (line["error_type"], line["error"]) == ("ValueError", "with a reason")
    assert (line["namespace"], line["queue"], line["worker"]) == ("team", "jobs", f"worker-{worker.port}")


@pytest.mark.parametrize(
    ("env", "code", "words"),
    [
        ({"TORIL_QUEUE": ""}, 2, "TORIL_QUEUE is missing"),
        ({"TORIL_LOG_LEVEL": "loud"}, 2, "TORIL_LOG_LEVEL must be one of debug, info, warning, error"),
        ({"TORIL_LOG_FORMAT": "xml"}, 2, "TORIL_LOG_FORMAT must be one of text, json"),
        ({"TORIL_CONCURRENCY": "many"}, 2, "TORIL_CONCURRENCY must be a whole number"),
        ({"TORIL_WORKER_OPTIONS": '{"lockDuration": "x"}'}, 2, "TORIL_WORKER_OPTIONS: lockDuration must be"),
        ({"TORIL_PROCESSOR": '{"exec": {"command": ["x"]}}'}, 2, "TORIL_PROCESSOR holds exec"),
        ({"TORIL_REDIS_URL": "http://user:hunter2@x"}, 2, "TORIL_REDIS_URL: must begin with redis://"),
        ({"TORIL_REDIS_URL": "postgres://user:hunter2@x/jobs"}, 2, "TORIL_REDIS_URL: names a PostgreSQL"),
        ({"TORIL_QUEUE": "other"}, 1, "module 'worker_jobs' has no queue 'other'; it has 'jobs'"),
        ({"TORIL_PROCESSOR": '{"python": {"module": "nowhere"}}'}, 1, "there is no module 'nowhere'"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, env: dict[str, str], code: int, words: str
) -> None:
    worker = workers.spawn("redis://127.0.0.1:1", "jobs", MODULE, env=env, folder=tmp_path)
    try:
        assert worker.wait() == code
        (line,) = worker.log.splitlines()
        assert line.startswith("toril worker: ")
        assert words in line
        assert "hunter2" not in line
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package' ("),
        ("x = 1 / 0\n", "ZeroDivisionError: division by zero ("),
        ("def f(:\n", "SyntaxError"),
        ("from toril import Queue\njobs = Queue('jobs')\n", "queue 'jobs' has no tasks"),
    ],
)
def test_a_module_that_is_broken_is_told_with_its_line(tmp_path: Path, module: str, words: str) -> None:
    worker = workers.spawn("redis://127.0.0.1:1", "jobs", module, folder=tmp_path)
    try:
        assert worker.wait() == 1
        (line,) = worker.log.splitlines()
        assert words in line
    finally:
        worker.close()


def test_a_port_that_is_taken_is_named(redis_url: str, tmp_path: Path) -> None:
    with workers.start(redis_url, "jobs", MODULE) as first:
        second = workers.spawn(redis_url, "jobs", MODULE, env={"TORIL_HTTP_PORT": str(first.port)}, folder=tmp_path)
        try:
            assert second.wait() == 1
            assert f"TORIL_HTTP_PORT {first.port} cannot be used" in second.log
            assert "Traceback" not in second.log
        finally:
            second.close()


def run_on_terminal(folder: Path, redis_url: str) -> tuple[subprocess.Popen[bytes], int]:
    """`toril worker run app` in `folder`; returns the process and what it shows."""
    shown, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "toril.cli.main", "worker", "run", "app", "--redis", redis_url, "--concurrency", "2"],
        cwd=folder, env={**os.environ, "TEST_TRACE": str(folder / "trace")},
        stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=die_with_parent,
    )  # fmt: skip
    os.close(terminal)
    return process, shown


async def test_toril_worker_run_on_a_terminal(jobs: EngineQueue, redis_url: str, gate: Path, tmp_path: Path) -> None:
    """One Ctrl-C drains, and says so; lines are for people."""
    (tmp_path / "app.py").write_text(MODULE)
    await jobs.add("until-gone", {"path": str(gate)})
    process, terminal = run_on_terminal(tmp_path, redis_url)
    shown = b""
    try:
        while b"connected to Redis" not in shown:
            shown += os.read(terminal, 4096)
        wait_until((tmp_path / "trace").exists, "the job to run")
        process.send_signal(signal.SIGINT)
        while b"draining: running jobs may finish" not in shown:
            shown += os.read(terminal, 4096)
        open_gate(gate)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert jobs.places() == {"completed": ["1"]}
    assert b"{" not in shown, "no JSON on a terminal"


def run_cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toril.cli.main", "worker", "run", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_toril_worker_run_refuses_what_it_cannot_serve(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(MODULE + "\nother = Queue('other')\nother.task(quick.function)\n")
    answer = run_cli(tmp_path, "two")
    assert (answer.returncode, answer.stderr) == (
        2, "toril: module 'two' has queues jobs, other: choose one with --queue\n",
    )  # fmt: skip
    answer = run_cli(tmp_path, "three")
    assert answer.returncode == 1
    assert answer.stderr.startswith("toril: there is no module 'three'")
    assert len(answer.stderr.splitlines()) == 1
    (tmp_path / "four.py").write_text("import sys\nsys.exit(0)\n")
    answer = run_cli(tmp_path, "four", "--queue", "jobs")
    assert answer.returncode == 1
    assert answer.stderr.startswith("toril: module 'four' ends the program when it is imported: sys.exit(0)")
    assert len(answer.stderr.splitlines()) == 1


def test_start_up_imports_stay_light() -> None:
    """A worker's start is part of every cold start from zero."""
    code = "import sys, json, toril.worker.process; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=True)
    loaded = set(json.loads(answer.stdout))
    heavy = {"pydantic", "structlog", "aiohttp", "kubernetes", "prometheus_client", "redis", "click", "yaml"}
    assert loaded & heavy == set()
