"""What becomes of jobs, threads and hooks when a worker ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

from support import workers
from support.engine import EngineQueue
from support.waiting import wait_until, wait_until_async
from support.worker_inside import StartWorker
from toril import Queue
from toril.worker.processors import Processors
from toril.worker.settings import WorkerSettings
from toril.worker.worker import Worker


async def test_what_has_just_ended_in_a_thread_is_not_given_back(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    begun, go = threading.Event(), threading.Event()

    @tasks.task
    def works() -> str:
        begun.set()
        go.wait(60)
        return "done"

    async with worker(tasks) as running:
        handle = await works.enqueue()
        assert await asyncio.to_thread(begun.wait, 30)
        go.set()
        # The loop does not come round meanwhile.
        wait_until(lambda: running._executor._threads._ended, "the job to end")
        assert await running._fetcher.abandon(1) == []
        assert await handle.result(30) == "done"
    assert stored.hash("1")["ats"] == "1"


@pytest.mark.parametrize("how", ["it is cancelled", "it breaks"])
async def test_a_worker_that_ends_before_its_jobs_stops_them_and_begins_no_more(
    tasks: Queue, stored: EngineQueue, how: str
) -> None:
    begun: list[str] = []
    ended: list[str] = []

    @tasks.task
    async def waits(*, number: str) -> None:
        begun.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    for number in ("1", "2", "3"):
        await waits.enqueue(number=number)
    settings = WorkerSettings(
        queue=tasks.name, processor={}, redis=tasks.settings, http_port=0, name="one", concurrency=2
    )
    worker = Worker(settings, Processors.of_queues(tasks.name, [tasks]))
    running = asyncio.create_task(worker.run())

    async def runs() -> bool:
        return len(begun) == 2

    await wait_until_async(runs, "the jobs to run")
    if how == "it breaks":
        worker._fetcher._pipeline.break_off(RuntimeError("as planned"))
        with pytest.raises(RuntimeError, match="as planned"):
            await running
    else:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert sorted(begun) == sorted(ended) == ["1", "2"]
    assert stored.places()["wait"] == ["3"], "nothing is taken for slots that are free again"


LEAVES_THREADS = """
import asyncio, threading
from toril import Queue

jobs = Queue("jobs")

@jobs.on_exhausted
def never_ends(job, error):
    threading.Event().wait()

@jobs.task
async def fails():
    raise ValueError("no")

@jobs.task
async def gives_up():
    asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))
    await asyncio.sleep(0)
    return "gave up"
"""


@pytest.mark.parametrize("name", ["fails", "gives-up"])
async def test_what_was_left_in_threads_does_not_keep_a_process(redis_url: str, name: str) -> None:
    async with Queue("jobs", url=redis_url) as queue:
        with workers.start(redis_url, "jobs", LEAVES_THREADS) as worker:
            handle = await queue.add(name, {})

            async def has_ended() -> bool:
                return (await handle.state()) in ("completed", "failed")

            await wait_until_async(has_ended, "the job to end")
            assert await asyncio.to_thread(worker.stop) == 0
    assert worker.log_lines[-1]["event"].startswith("stopped after")


async def test_a_worker_that_breaks_tells_why_and_leaves(redis_url: str) -> None:
    """What a function does to the worker's own tasks is beyond mending."""
    module = """
import asyncio, threading
from toril import Queue

jobs = Queue("jobs")

@jobs.task
async def stops_the_loop():
    asyncio.ensure_future(asyncio.to_thread(threading.Event().wait))
    await asyncio.sleep(0)
    asyncio.get_running_loop().stop()
"""
    async with Queue("jobs", url=redis_url) as queue:
        with workers.start(redis_url, "jobs", module) as worker:
            await queue.add("stops-the-loop", {})
            assert await asyncio.to_thread(worker.wait) == 1
    (line,) = (line for line in worker.log_lines if line["event"] == "the worker broke")
    assert "Event loop stopped before Future completed" in line["error"]
