"""A worker that is flagged: it takes nothing, asks seldom, ends what it runs, and works again when the flag is gone."""

from __future__ import annotations

import asyncio

from support.engine import EngineQueue
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Queue
from toril.engine import draining


def calls(stored: EngineQueue) -> int:
    """How many calls of scripts the server has had."""
    stats = stored.raw.info("commandstats")
    return sum(stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)


def server_seconds(stored: EngineQueue) -> float:
    seconds, microseconds = stored.raw.time()
    return float(seconds + microseconds / 1e6)


async def wake_up_is_there(stored: EngineQueue) -> None:
    await wait_until_async(lambda: stored.connection.command("ZCARD", stored.keys.marker), "a wake-up for others")


async def test_a_flagged_worker_beside_a_backlog_asks_at_most_once_a_second(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    done: set[int] = set()
    all_done = asyncio.Event()

    @tasks.task
    async def note(number: int) -> None:
        done.add(number)
        if done == set(range(20)):
            all_done.set()

    await draining.flag(stored.connection, stored.keys, ["w"])
    async with worker(tasks, name="w"):
        for number in range(20):
            await note.enqueue(number)
        await wake_up_is_there(stored)
        before, began = calls(stored), server_seconds(stored)
        # The first may come at once: the worker has just been waiting.

        async def has_asked() -> bool:
            return calls(stored) >= before + 4

        await wait_until_async(has_asked, "it to ask four times", timeout_seconds=60)
        assert server_seconds(stored) - began >= 3
        assert not done
        await draining.unflag(stored.connection, stored.keys, ["w"])
        await asyncio.wait_for(all_done.wait(), 60)


async def test_a_flagged_worker_ends_what_it_runs(tasks: Queue, worker: StartWorker, stored: EngineQueue) -> None:
    gate, started = asyncio.Event(), asyncio.Event()

    @tasks.task
    async def wait() -> str:
        started.set()
        await gate.wait()
        return "done"

    async with worker(tasks, name="w", concurrency=2):
        first = await wait.enqueue()
        await started.wait()
        await draining.flag(stored.connection, stored.keys, ["w"])
        second = await wait.enqueue()
        await wake_up_is_there(stored)
        gate.set()
        assert await first.result(timeout=60) == "done"
        assert stored.places() == {"wait": [second.id], "completed": [first.id]}


async def test_jobs_beside_a_flagged_worker_go_to_another(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def nothing() -> None:
        return None

    await draining.flag(stored.connection, stored.keys, ["leaves"])
    async with worker(tasks, name="leaves"), worker(tasks, name="stays"):
        for _ in range(5):
            job = await nothing.enqueue()
            await job.result(timeout=60)
            assert stored.hash(job.id)["pb"] == "stays"


async def test_a_flagged_worker_leaves_when_it_is_stopped(
    tasks: Queue, worker: StartWorker, stored: EngineQueue
) -> None:
    @tasks.task
    async def nothing() -> None:
        return None

    await draining.flag(stored.connection, stored.keys, ["w"])
    async with worker(tasks, name="w"):
        job = await nothing.enqueue()
        await wake_up_is_there(stored)
    assert stored.places() == {"wait": [job.id]}
