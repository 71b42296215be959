"""A worker that dies and starts anew in its container: its jobs run again at once, and the guilty one is found."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import workers
from support.engine import EngineQueue
from support.folders import run_folder
from support.waiting import wait_until, wait_until_async
from support.worker_inside import StartWorker
from support.workers import WorkerProcess
from toril import Queue

NEVER = {"lockDuration": 3_600_000, "stalledInterval": 3_600_000}
"""Worker options under which neither locks nor stalled checks give any job back while a test runs."""
CONTAINER = {"TORIL_POD_NAME": "pod-1", "TORIL_POD_UID": "uid-1", "TORIL_CONTAINER": "worker"}

HOLD = f"""
import pathlib, time
from toril import Job, Queue
{workers.TRACE}
queue = Queue(os.environ["TORIL_QUEUE"])

@queue.task
def hold(gate: str) -> str:
    trace(f"{{Job.current().id}} {{os.getpid()}}")
    while not pathlib.Path(gate).exists():
        time.sleep(0.01)
    return "done"

@queue.task
def quick() -> str:
    return "quick"
"""

POISON = f"""
import asyncio, pathlib, signal
from toril import Job, Queue
{workers.TRACE}
queue = Queue(os.environ["TORIL_QUEUE"])

@queue.task
async def innocent(gate: str) -> str:
    trace(Job.current().id)
    while not pathlib.Path(gate).exists():
        await asyncio.sleep(0.01)
    return "done"

@queue.task
async def poison() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def start(redis_url: str, queue: str, module: str, folder: Path, **env: str) -> Iterator[WorkerProcess]:
    """A worker in a folder of several, ended at the end of the block in whatever way."""
    worker = workers.spawn(redis_url, queue, module, concurrency=5, options=NEVER, env=CONTAINER | env, folder=folder)
    try:
        yield worker
    finally:
        worker.close()


async def test_the_jobs_of_a_killed_process_run_again_at_once_when_its_container_starts_anew(
    redis_url: str, queue_name: str, stored: EngineQueue
) -> None:
    folder = run_folder("toril-worker-")
    gate = folder / "gate"
    for name in ("a", "b", "c"):
        await stored.add("hold", {"gate": str(gate)}, jobId=name)
    with start(redis_url, queue_name, HOLD, folder) as first:
        wait_until(lambda: len(first.trace) == 3, "three jobs to run", timeout_seconds=60)
        first.kill()
        assert stored.places() == {"active": ["a", "b", "c"]}
        gate.touch()
        with start(redis_url, queue_name, HOLD, folder) as second:
            wait_until(lambda: len(second.trace) == 6, "all to run again", timeout_seconds=60)
            assert {line.split()[1] for line in second.trace[3:]} == {str(second.process.pid)}
            wait_until(lambda: len(stored.places().get("completed", [])) == 3, "all to end")
            assert second.stop() == 0
    assert [stored.hash(name).get("stc") for name in ("a", "b", "c")] == [None, None, None]
    assert not [name for name in ("a", "b", "c") if "torilSuspect" in stored.hash(name)]


@pytest.mark.parametrize(
    "other",
    [{"TORIL_POD_UID": "uid-2"}, {"TORIL_CONTAINER": "sidecar"}, {"TORIL_POD_UID": "", "TORIL_CONTAINER": ""}],
    ids=["another-pod", "another-container", "not-known"],
)
async def test_a_process_of_the_same_name_elsewhere_takes_nothing_back(
    redis_url: str, queue_name: str, stored: EngineQueue, other: dict[str, str]
) -> None:
    folder = run_folder("toril-worker-")
    await stored.add("hold", {"gate": str(folder / "gate")}, jobId="a")
    with start(redis_url, queue_name, HOLD, folder) as first:
        wait_until(lambda: first.trace, "the job to run", timeout_seconds=60)
        first.kill()
        with start(redis_url, queue_name, HOLD, folder, **other) as second:
            second.wait_ready()
            await stored.add("quick", {}, jobId="b")
            wait_until(lambda: stored.places().get("completed") == ["b"], "another job to run", timeout_seconds=60)
            assert stored.places()["active"] == ["a"]


async def test_what_a_job_starts_is_not_told_the_container(
    redis_url: str, queue_name: str, stored: EngineQueue
) -> None:
    """A worker that a job starts would take the job back from under it."""
    module = f"""
import os
from toril import Queue
queue = Queue("{queue_name}")

@queue.task
def told() -> list[str]:
    return sorted(name for name in os.environ if name in ("TORIL_POD_UID", "TORIL_CONTAINER"))
"""
    job_id = await stored.add("told", {})
    with workers.start(redis_url, queue_name, module, env=CONTAINER):
        wait_until(lambda: stored.places().get("completed") == [job_id], "the job to end")
    assert stored.hash(job_id)["returnvalue"] == "[]"


async def test_the_job_that_ends_its_worker_fails_and_those_beside_it_do_not(
    redis_url: str, queue_name: str, stored: EngineQueue
) -> None:
    folder = run_folder("toril-worker-")
    gate = folder / "gate"
    innocents = [f"innocent-{number}" for number in range(3)]
    for name in innocents:
        await stored.add("innocent", {"gate": str(gate)}, jobId=name)
    crashes = 0
    with start(redis_url, queue_name, POISON, folder) as first:
        wait_until(lambda: len(first.trace) == 3, "three jobs to run", timeout_seconds=60)
        await stored.add("poison", {}, jobId="poison")
        assert first.wait() == -signal.SIGKILL
    assert sorted(stored.places()["active"]) == [*innocents, "poison"]
    gate.touch()
    while crashes < 10 and stored.places().get("failed") != ["poison"]:
        with start(redis_url, queue_name, POISON, folder) as worker:

            def is_over(worker: WorkerProcess = worker) -> bool:
                return worker.process.poll() is not None or stored.places().get("failed") == ["poison"]

            wait_until(is_over, "the worker to die, or to live", timeout_seconds=60)
            crashes += worker.process.poll() is not None
            if worker.process.poll() is None:
                wait_until(lambda: len(stored.places()["completed"]) == 3, "the others to end")
                assert worker.stop() == 0
    assert crashes == 2
    assert sorted(stored.places()["completed"]) == innocents
    assert stored.hash("poison")["failedReason"] == "job stalled more than allowable limit"
    assert [stored.hash(name).get("stc") for name in innocents] == [None, None, None]


# ---- suspects in one worker


async def test_a_suspect_runs_alone(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    now: set[str] = set()
    together: list[tuple[str, ...]] = []

    @tasks.default
    async def note(job: Any) -> None:
        now.add(job.id)
        together.append(tuple(sorted(now)))
        await asyncio.sleep(0.02)
        together.append(tuple(sorted(now)))
        now.discard(job.id)

    for number in range(12):
        await stored.add("job", {}, jobId=f"job-{number}")
    suspects = ("job-0", "job-5", "job-6")
    for name in suspects:
        stored.raw.hset(stored.keys.job(name), "torilSuspect", "1")

    async def all_are_done() -> bool:
        return len(stored.places().get("completed", [])) == 12

    async with worker(tasks, concurrency=4):
        await wait_until_async(all_are_done, "all jobs to end", timeout_seconds=60)
    assert {names for names in together if set(names) & set(suspects)} == {(name,) for name in suspects}
    for name in suspects:
        assert "torilSuspect" not in stored.hash(name)
        assert (stored.hash(name)["atm"], stored.hash(name)["ats"]) == ("1", "1")


async def test_a_suspect_waits_for_what_runs_and_nothing_starts_beside_it(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    gates = {name: asyncio.Event() for name in ("long", "suspect", "other")}
    started: list[str] = []

    @tasks.default
    async def hold(job: Any) -> None:
        started.append(job.id)
        await gates[job.id].wait()

    async def are_started(*names: str) -> bool:
        return started == list(names)

    async with worker(tasks, concurrency=4) as running:
        await stored.add("job", {}, jobId="long")
        await wait_until_async(lambda: are_started("long"), "the first job to run")
        # While the queue is paused nothing is taken: both jobs come with one call.
        await tasks.pause()
        await stored.add("job", {}, jobId="suspect")
        stored.raw.hset(stored.keys.job("suspect"), "torilSuspect", "1")
        await stored.add("job", {}, jobId="other")
        await tasks.resume()

        async def suspect_is_held() -> bool:
            return running._executor._suspects.waiting is not None and stored.places().get("wait") == ["other"]

        await wait_until_async(suspect_is_held, "the suspect to be held, and the other job to be given back")
        assert started == ["long"]
        gates["long"].set()
        await wait_until_async(lambda: are_started("long", "suspect"), "the suspect to run")
        assert stored.places()["wait"] == ["other"]
        gates["suspect"].set()
        await wait_until_async(lambda: are_started("long", "suspect", "other"), "the other job to run")
        gates["other"].set()


async def test_a_suspect_that_waits_is_given_back_when_the_worker_stops(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    started = asyncio.Event()

    @tasks.default
    async def hold(job: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    async with worker(tasks, concurrency=4, drain_seconds=0) as running:
        await stored.add("job", {}, jobId="long")
        await started.wait()
        await stored.add("job", {}, jobId="suspect", priority=1)
        stored.raw.hset(stored.keys.job("suspect"), "torilSuspect", "1")

        async def suspect_is_held() -> bool:
            return running._executor._suspects.waiting is not None

        await wait_until_async(suspect_is_held, "the suspect to be held")
    assert stored.places() == {"wait": ["long"], "prioritized": ["suspect"]}
    assert "torilSuspect" in stored.hash("suspect")
