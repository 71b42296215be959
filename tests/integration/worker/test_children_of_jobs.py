"""Processes that jobs make: signals mean to them what they mean to any process, and none of them is a second worker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import workers
from support.engine import EngineQueue, open_queue
from support.waiting import wait_until
from support.workers import WorkerProcess

MODULE = """
import asyncio, concurrent.futures, multiprocessing, os, signal, subprocess, sys, time, warnings
from toril import Queue

warnings.simplefilter("ignore", DeprecationWarning)      # of Python 3.12: forks in programs that have threads
made = Queue("made")
sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]

def square(number):
    return number * number

@made.task
def pool(method: str) -> list:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(4))

@made.task
def executor(method: str) -> list:
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        return list(pool.map(square, range(4)))

@made.task
async def executor_of_a_coroutine(method: str) -> list:
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, square, number) for number in range(4)))

def codes_of_terminated(method):
    codes = []
    for pause in (0, 0, 0, 0.05):
        child = multiprocessing.get_context(method).Process(target=time.sleep, args=(600,))
        child.start()
        time.sleep(pause)
        child.terminate()
        child.join()
        codes.append(child.exitcode)
    return codes

@made.task
def terminated(method: str) -> list:
    return codes_of_terminated(method)

@made.task(inline=True)
def terminated_on_the_loop(method: str) -> list:
    return codes_of_terminated(method)

def tell_and_sleep(ready):
    ready.set()
    time.sleep(600)

@made.task
def interrupted(method: str) -> int:
    context = multiprocessing.get_context(method)
    ready = context.Event()
    child = context.Process(target=tell_and_sleep, args=(ready,))
    child.start()
    ready.wait()      # until then Python itself may drop the KeyboardInterrupt, in a hook that runs after forks
    while child.is_alive():
        # In children of threads, Python 3.13.0 looks at signals only when a system call was interrupted.
        os.kill(child.pid, signal.SIGINT)
        child.join(1)
    return child.exitcode

def end(child):
    child.terminate()
    return child.wait()

@made.task
def programs() -> list:
    return [
        end(subprocess.Popen(sleeps)),
        end(subprocess.Popen(sleeps, preexec_fn=os.getpid)),
        end(subprocess.Popen(sleeps, user=os.getuid())),
        end(subprocess.Popen(sleeps, start_new_session=True)),
    ]

@made.task
async def program_of_a_coroutine() -> int:
    child = await asyncio.create_subprocess_exec(*sleeps)
    child.terminate()
    return await child.wait()

@made.task
def forked() -> int:
    pid = os.fork()
    if not pid:
        time.sleep(600)
        os._exit(1)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def fork_and_come_back(how):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "returns":
        return "from the child"
    sys.exit(int(how)) if how.isdigit() else int(how)

@made.task
def comes_back(how: str) -> int:
    return fork_and_come_back(how)

@made.task(inline=True)
def comes_back_on_the_loop(how: str) -> int:
    return fork_and_come_back(how)

@made.task
async def comes_back_from_a_coroutine(how: str) -> int:
    return fork_and_come_back(how)

@made.task
async def comes_back_from_one_that_waited(how: str) -> int:
    await asyncio.sleep(0.01)
    return fork_and_come_back(how)

@made.task
async def waits_in_the_child(before: bool) -> int:
    if before:
        await asyncio.sleep(0.01)
    never = asyncio.get_running_loop().create_future()
    pid = os.fork()
    if not pid:
        await never
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

@made.task
async def quick() -> str:
    return "quick"
"""

SIGTERMED = -15
METHODS = ["fork", "forkserver", "spawn"]
JOBS: list[tuple[str, dict[str, Any], Any]] = [
    *[("pool", {"method": method}, [0, 1, 4, 9]) for method in METHODS],
    ("executor", {"method": "fork"}, [0, 1, 4, 9]),
    ("executor-of-a-coroutine", {"method": "spawn"}, [0, 1, 4, 9]),
    *[("terminated", {"method": method}, [SIGTERMED] * 4) for method in METHODS],
    ("terminated-on-the-loop", {"method": "fork"}, [SIGTERMED] * 4),
    ("interrupted", {"method": "fork"}, 1),
    ("programs", {}, [SIGTERMED] * 4),
    ("program-of-a-coroutine", {}, SIGTERMED),
    ("forked", {}, SIGTERMED),
]


@pytest.fixture
async def made(redis_url: str) -> AsyncIterator[EngineQueue]:
    async with open_queue(redis_url, "made") as queue:
        yield queue


@pytest.fixture(params=["uvloop", "asyncio"])
def worker(
    made: EngineQueue, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[WorkerProcess]:
    """A worker on the faster event loop that its image has, and one on Python's own."""
    if request.param == "asyncio":
        (tmp_path / "uvloop.py").write_text("raise ImportError('not for this worker')\n")
    with workers.start(redis_url, "made", MODULE, folder=tmp_path) as running:
        yield running


async def result_of(made: EngineQueue, name: str, data: dict[str, Any]) -> Any:
    job_id = await made.add(name, data)
    wait_until(lambda: made.hash(job_id).get("finishedOn"), f"the end of {name} {data}", timeout_seconds=120)
    stored = made.hash(job_id)
    assert "failedReason" not in stored, stored["stacktrace"]
    return json.loads(stored["returnvalue"])


async def test_signals_for_children_end_the_children(made: EngineQueue, worker: WorkerProcess) -> None:
    for name, data, expected in JOBS:
        assert (name, data, await result_of(made, name, data)) == (name, data, expected)
        assert await result_of(made, "quick", {}) == "quick"
    assert "draining" not in worker.log


@pytest.mark.parametrize(
    "name", ["comes-back", "comes-back-on-the-loop", "comes-back-from-a-coroutine", "comes-back-from-one-that-waited"]
)
async def test_a_child_that_comes_back_from_its_job_ends(made: EngineQueue, worker: WorkerProcess, name: str) -> None:
    """The job waits for its child's end; the exit codes are those of a program that does the same."""
    for how, code in [("returns", 0), ("0", 0), ("7", 7), ("raises", 1)]:
        assert (how, await result_of(made, name, {"how": how})) == (how, code)
    assert await result_of(made, "quick", {}) == "quick"
    assert "invalid literal for int" in worker.log
    assert made.event_names().count("completed") == 5


async def test_a_child_cannot_wait_on_the_loop_of_its_worker(made: EngineQueue, worker: WorkerProcess) -> None:
    for before in (False, True):
        assert await result_of(made, "waits-in-the-child", {"before": before}) == 1
    assert await result_of(made, "quick", {}) == "quick"
    assert "a child process has no event loop" in worker.log
