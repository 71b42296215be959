"""Functions that users register around a worker's life and around each job: when they are called, and what they see."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from support import workers
from support.engine import EngineQueue
from support.waiting import wait_until
from support.worker_inside import StartWorker
from toril import Job, JobFailedError, Queue

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


class Calls(list[str]):
    """What was called, in order; `register` lets a queue call all of its hooks here."""

    def register(self, queue: Queue, *, is_async: bool) -> None:
        def hook(name: str) -> Any:
            def plain(*arguments: Any) -> None:
                self.append(" ".join([name, *map(say, arguments)]))
                if name == "before":
                    request.set("set before")

            async def later(*arguments: Any) -> None:
                plain(*arguments)
                await asyncio.sleep(0)

            return later if is_async else plain

        queue.on_start(hook("start"))
        queue.on_stop(hook("stop"))
        queue.before_job(hook("before"))
        queue.after_job(hook("after"))
        queue.on_completed(hook("completed"))
        queue.on_attempt_failed(hook("failed"))
        queue.on_exhausted(hook("exhausted"))


def say(argument: Any) -> str:
    return argument.id if isinstance(argument, Job) else str(argument)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["coroutine", "thread", "inline", "awaited"])
async def test_each_is_called_in_its_moment(tasks: Queue, worker: StartWorker, how: str, is_async: bool) -> None:
    calls = Calls()
    calls.register(tasks, is_async=is_async)

    def body(n: int) -> str:
        calls.append(f"body {n} {request.get()}")
        if n < 0:
            raise ValueError("below zero")
        return f"{n}"

    async def body_later(n: int) -> str:
        await asyncio.sleep(0)
        return body(n)

    def body_awaited(n: int) -> Any:
        return body_later(n)

    function = {"coroutine": body_later, "awaited": body_awaited}.get(how, body)
    tasks.task(name="work", attempts=2, inline=how == "inline")(function)
    async with worker(tasks):
        assert await (await tasks.add("work", {"n": 1})).result(30) == "1"
        handle = await tasks.add("work", {"n": -1}, {"attempts": 2})
        with pytest.raises(JobFailedError, match="below zero"):
            await handle.result(30)
    # What an `async` function sets for the context is its own where it is awaited for a thread.
    seen = "none" if is_async and how in ("thread", "awaited") else "set before"
    around = ["before 2", f"body -1 {seen}", "after 2", "failed 2 below zero"]
    first, rest = ["start", "before 1", f"body 1 {seen}", "after 1", "completed 1 1"], [*around, *around]
    assert sorted(calls) == sorted([*first, *rest, "exhausted 2 below zero", "stop"])
    assert (calls[0], calls[-1]) == ("start", "stop")
    assert [call for call in calls if call.split()[0] in ("before", "body", "after")] == [
        *first[1:4], *around[:3], *around[:3],
    ]  # fmt: skip
    assert calls.index("exhausted 2 below zero") > max(at for at, call in enumerate(calls) if call.startswith("failed"))


@pytest.mark.parametrize("how", ["coroutine", "thread"])
async def test_what_is_raised_before_a_job_fails_it_and_after_it_does_not(
    tasks: Queue, worker: StartWorker, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    @tasks.before_job
    def refuse(job: Job) -> None:
        if job.name == "refused":
            raise ValueError("not this one")

    @tasks.after_job
    def break_off(job: Job) -> None:
        raise SystemExit(1)

    def body() -> str:
        return "done"

    async def body_later() -> str:
        return "done"

    for name in ("refused", "taken"):
        tasks.task(name=name)(body if how == "thread" else body_later)
    async with worker(tasks):
        with pytest.raises(JobFailedError, match="not this one"):
            await (await tasks.add("refused", {})).result(30)
        assert await (await tasks.add("taken", {})).result(30) == "done"
    assert caplog.text.count("a function of after_job failed") == 2


async def test_before_and_after_run_in_the_thread_of_the_job(tasks: Queue, worker: StartWorker) -> None:
    threads: list[int] = []
    tasks.before_job(lambda job: threads.append(threading.get_ident()))
    tasks.after_job(lambda job: threads.append(threading.get_ident()))

    @tasks.task
    def work() -> None:
        threads.append(threading.get_ident())

    async with worker(tasks):
        await (await work.enqueue()).result(30)
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0] != threading.main_thread().ident


MODULE = """
import asyncio, os, time
from toril import Queue
jobs = Queue("jobs")

@jobs.on_start
async def start():
    if os.environ["START"] == "raises":
        raise ValueError("no database")
    if os.environ["START"] == "waits":
        print("starting", flush=True)
        await asyncio.sleep(600)

@jobs.on_stop
def stop():
    print("stopping", flush=True)
    if os.environ["STOP"] == "raises":
        raise ValueError("no database")

@jobs.task
async def quick() -> None: ...
"""


def test_a_start_that_fails_ends_the_worker(redis_url: str) -> None:
    worker = workers.spawn(redis_url, "jobs", MODULE, env={"START": "raises", "STOP": ""})
    try:
        assert worker.wait() == 1
        assert "ValueError: no database" in worker.log
        assert "stopping" not in worker.log
    finally:
        worker.close()


def test_a_start_that_waits_is_ended_by_a_signal(redis_url: str) -> None:
    worker = workers.spawn(redis_url, "jobs", MODULE, env={"START": "waits", "STOP": ""})
    try:
        wait_until(lambda: "starting" in worker.log, "the start to wait")
        assert worker.stop() == 0
        assert "stopping" not in worker.log
    finally:
        worker.close()


async def test_a_stop_that_fails_is_logged(redis_url: str, stored: EngineQueue) -> None:
    with workers.start(redis_url, "jobs", MODULE, env={"START": "", "STOP": "raises"}) as worker:
        assert worker.stop() == 0
    assert "stopping" in worker.log
    assert "a function of on_stop failed" in worker.log
