"""A worker's machine is not as it should be: its clock is wrong, or a job keeps the event loop from going round."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import workers
from support.engine import open_queue
from support.waiting import wait_until

HOUR_SECONDS = 3600
WRONG_CLOCK = """
import os, time

shift = float(os.environ["TEST_CLOCK_SHIFT"])
real_time, real_time_ns = time.time, time.time_ns
time.time = lambda: real_time() + shift
time.time_ns = lambda: real_time_ns() + int(shift * 1_000_000_000)
"""
"""A `sitecustomize`: every Python in whose path it is begins with it."""
CLOCK_JOBS = (
    workers.TRACE
    + """
import time
from toril import Job, Queue

jobs = Queue("jobs")

@jobs.task
async def tells_time(*, job: Job = Job.current()) -> None:
    trace(f"{job.id}:{time.time():.0f}")

@jobs.task
async def fails_once(*, job: Job = Job.current()) -> None:
    if job.attempt == 1:
        raise ValueError("as planned")
"""
)
BLOCKING_JOBS = (
    workers.TRACE
    + """
import os, time
from toril import Queue

jobs = Queue("jobs")

@jobs.task
async def blocks(path: str) -> str:
    trace("start")
    while os.path.exists(path):
        time.sleep(0.01)
    return "done"
"""
)


@pytest.mark.requirement("T48")
@pytest.mark.parametrize("shift", [HOUR_SECONDS, -HOUR_SECONDS])
async def test_a_wrong_clock_moves_no_due_time(redis_url: str, tmp_path: Path, shift: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK)
    env = {"TEST_CLOCK_SHIFT": str(shift), "PYTHONPATH": str(tmp_path)}
    async with open_queue(redis_url, "jobs") as queue:

        def started_ms(job_id: str) -> int:
            return int(queue.hash(job_id).get("processedOn", 0))

        with workers.start(redis_url, "jobs", CLOCK_JOBS, concurrency=3, env=env, folder=tmp_path) as worker:
            await queue.add("tells-time", {}, delay=1_800_000)
            await queue.add("tells-time", {}, delay=500)
            await queue.add("fails-once", {}, attempts=2, backoff=700)
            wait_until(lambda: len(queue.places().get("completed", [])) == 2, "what is due to be done")
            assert queue.places()["delayed"] == ["1"]
            seconds, _ = queue.raw.time()
            job, _, told = worker.trace[0].partition(":")
            assert job == "2"
            assert abs(int(told) - seconds - shift) < 60, "the clock was not wrong: nothing is shown"
        added = {job: int(queue.hash(job)["timestamp"]) for job in "23"}
        assert 500 <= started_ms("2") - added["2"] < 60_000
        # The first start, the pause of the backoff, the second start: all by Redis's clock.
        assert 700 <= started_ms("3") - added["3"] < 60_000
        assert (queue.hash("3")["ats"], queue.hash("1").get("ats")) == ("2", None)
        assert abs(int(queue.hash("3")["finishedOn"]) / 1000 - seconds) < 60


@pytest.mark.requirement("T48")
async def test_workers_whose_clocks_differ_take_in_the_order_of_due_times(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK)
    async with open_queue(redis_url, "jobs") as queue:
        for _ in range(10):
            await queue.add("tells-time", {}, delay=600)
        first, second = (
            workers.spawn(
                redis_url, "jobs", CLOCK_JOBS, folder=tmp_path,
                env={"TEST_CLOCK_SHIFT": str(shift), "PYTHONPATH": str(tmp_path)},
            )
            for shift in (600, -600)
        )  # fmt: skip
        try:
            wait_until(lambda: len(queue.places().get("completed", [])) == 10, "all jobs", timeout_seconds=60)
        finally:
            first.close()
            second.close()
        starts = [int(queue.hash(str(job))["processedOn"]) for job in range(1, 11)]
        due = [int(queue.hash(str(job))["timestamp"]) + 600 for job in range(1, 11)]
        assert starts == sorted(starts)
        assert all(start >= at for start, at in zip(starts, due, strict=True))


@pytest.mark.requirement("T14")
async def test_a_blocked_event_loop_is_told_with_its_remedy(redis_url: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with open_queue(redis_url, "jobs") as queue:
        with workers.start(redis_url, "jobs", BLOCKING_JOBS, folder=tmp_path) as worker:
            await queue.add("blocks", {"path": str(gate)})
            wait_until(lambda: worker.trace == ["start"], "the job to run")
            # The probe has nobody who answers it: asked again and again, Kubernetes starts the worker anew.
            for _ in range(2):
                assert worker.get("/livez", timeout_seconds=4)[0] == 0
            gate.unlink()
            wait_until(lambda: "the event loop stood still" in worker.log, "a line about it")
            assert worker.get("/livez") == (200, "ok\n")
            # On a busy machine it may stand still more than once.
            line = next(line for line in worker.log_lines if "the event loop stood still" in line["event"])
        assert line["level"] == "warning"
        assert "let blocking work run in a plain `def`" in line["event"]
        assert queue.places() == {"completed": ["1"]}
        assert queue.hash("1")["ats"] == "1"
