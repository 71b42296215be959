"""Worker processes behind the `Fleet` interface."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.engine import EngineQueue
from support.waiting import wait_until_async
from toril.cli.dev import environment
from toril.cli.dev.fleet import ProcessFleet
from toril.cli.dev.session import client_names
from toril.engine.getters import read_signals
from toril.jobs.signals import QueueSignals
from toril.scaling.policy import FleetState
from toril.specs.jobqueue import parse_job_queue

JOBS = '''
import asyncio, os, pathlib, subprocess
from toril import Queue

queue = Queue("QUEUE")

@queue.task
async def hold(file: str) -> None:
    while not pathlib.Path(file).exists():
        await asyncio.sleep(0.02)

@queue.task
async def leave(file: str, session: bool, code: int) -> None:
    """Leave a process behind that holds the worker's output open; with a code, end the worker at once."""
    child = subprocess.Popen(["sleep", "300"], start_new_session=session)
    pathlib.Path(file).write_text(str(child.pid))
    if code:
        os._exit(code)
'''


@pytest.fixture
async def fleet(queue: EngineQueue, redis_url: str, tmp_path: Path) -> AsyncIterator[ProcessFleet]:
    (tmp_path / "fleet_jobs.py").write_text(JOBS.replace("QUEUE", queue.keys.queue))
    worker = {"processor": {"python": {"module": "fleet_jobs"}}}
    spec = parse_job_queue(
        {
            "apiVersion": "toril.dev/v1alpha1",
            "kind": "JobQueue",
            "metadata": {"name": "held"},
            "spec": {"queueName": queue.keys.queue, "redis": {"url": "redis://elsewhere"}, "worker": worker},
        }
    )
    variables = environment.build_environment(spec, redis_url, [tmp_path], os.environ)
    fleet = ProcessFleet("held", variables, on_line=lambda name, line: None, on_crash=lambda text, last: None)
    yield fleet
    await fleet.kill()
    assert fleet.running == 0


async def look(fleet: ProcessFleet, queue: EngineQueue) -> FleetState:
    """One look as a session takes it."""
    (signals,) = await read_signals(queue.connection, [queue.keys], with_locks=True)
    assert isinstance(signals, QueueSignals)
    fleet.note_jobs(signals.locks_by_worker)
    start = queue.keys.client_name(":w:")
    names = client_names(await queue.connection.command("CLIENT", "LIST"))
    fleet.note_ready({name.removeprefix(start) for name in names if name.startswith(start)})
    return fleet.observe()


async def test_scaling_down_drains_the_idle_worker_and_leaves_the_busy_one(
    fleet: ProcessFleet, queue: EngineQueue, tmp_path: Path
) -> None:
    async def has(ready: int, busy: int) -> bool:
        return await look(fleet, queue) == FleetState(fleet.wanted, busy) and fleet.ready == ready

    await fleet.scale(1)
    await wait_until_async(lambda: has(1, 0), "the first worker", timeout_seconds=60)
    await queue.add("hold", {"file": str(tmp_path / "released")})
    await wait_until_async(lambda: has(1, 1), "the first worker to be busy")
    await fleet.scale(2)
    await wait_until_async(lambda: has(2, 1), "the second worker", timeout_seconds=60)

    await fleet.scale(1)
    assert fleet.draining == 1

    async def is_alone() -> bool:
        return fleet.running == 1

    await wait_until_async(is_alone, "the idle worker to end")
    await wait_until_async(lambda: has(1, 1), "the busy one to be alone")
    await fleet.scale(0)
    assert (fleet.running, fleet.draining) == (1, 1)
    (tmp_path / "released").touch()

    async def is_empty() -> bool:
        return fleet.running == 0

    await wait_until_async(is_empty, "the busy worker to end after its job")
    assert queue.places() == {"completed": ["1"]}


@pytest.mark.parametrize("session", [False, True], ids=["in the worker's group", "in a session of its own"])
@pytest.mark.parametrize("code", [0, 3], ids=["the worker is asked to drain", "the worker crashes"])
async def test_a_process_that_a_job_left_holds_nothing_up(
    fleet: ProcessFleet, queue: EngineQueue, tmp_path: Path, session: bool, code: int
) -> None:
    await fleet.scale(1)
    left = tmp_path / "pid"

    async def is_left() -> bool:
        await look(fleet, queue)
        return left.exists() and left.read_text() != ""

    job_id = await queue.add("leave", {"file": str(left), "session": session, "code": code})
    await wait_until_async(is_left, "the process that the job leaves", timeout_seconds=60)
    pid = int(left.read_text())
    try:
        if code:

            async def is_replaced() -> bool:
                await fleet.scale(1)
                await look(fleet, queue)
                return fleet.ready == 1 and fleet.pauses.in_a_row == 1

            await wait_until_async(is_replaced, "another worker", timeout_seconds=60)
        else:

            async def is_completed() -> bool:
                return await queue.inspector.state(job_id) == "completed"

            await wait_until_async(is_completed, "the end of the job")
            await fleet.scale(0)

            async def is_empty() -> bool:
                return fleet.running == 0

            await wait_until_async(is_empty, "the end of the worker", timeout_seconds=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
