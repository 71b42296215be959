"""What Redis's own durability promises, seen through jobs: nothing acknowledged is lost, or a known little."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from support import invariants, soak
from support.engine import EngineQueue, open_queue
from support.redis_server import RedisServer
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue, clock, errors

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")


@pytest.fixture
def start_server() -> Iterator[Callable[..., RedisServer]]:
    with contextlib.ExitStack() as started:

        def start(*options: str) -> RedisServer:
            server = RedisServer(*options)
            started.callback(server.remove)
            return server

        yield start


def shut_down(server: RedisServer) -> None:
    """SHUTDOWN NOSAVE: the server ends at once; what it has not written is gone."""
    # Not by redis-py, which would say it again and again.
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"SHUTDOWN NOSAVE\r\n")
    assert server.process is not None
    server.process.wait(20)
    server.process = None


class Adder:
    """Adds jobs with ids of its own, one after the other, and remembers what was acknowledged, and when."""

    def __init__(self, queue: EngineQueue) -> None:
        self._queue = queue
        self.acknowledged_ms: dict[str, int] = {}
        self.attempted: set[str] = set()

    async def run(self) -> None:
        """Until cancelled. An add that fails is not repeated."""
        while True:
            job_id = f"job-{len(self.attempted)}"
            self.attempted.add(job_id)
            with contextlib.suppress(errors.RedisError):
                await self._queue.add("step", {}, jobId=job_id)
                self.acknowledged_ms[job_id] = clock.now_ms()
            await asyncio.sleep(0.0005)

    async def until(self, count: int) -> None:
        async def is_enough() -> bool:
            return len(self.acknowledged_ms) >= count

        await wait_until_async(is_enough, f"{count} jobs to be acknowledged", timeout_seconds=30)


@pytest.mark.requirement("T24")
@pytest.mark.parametrize("rounds", soak.lengths(3, 30))
async def test_with_fsync_always_nothing_acknowledged_is_lost(
    start_server: Callable[..., RedisServer], worker: StartWorker, queue_name: str, rounds: int
) -> None:
    """The server is shut down without saving, again and again, while jobs are added, run and ended."""
    server = start_server(*ALWAYS)
    told: dict[str, int] = {}

    async with open_queue(server.url, queue_name) as queue, Queue(queue_name, url=server.url) as tasks:

        @tasks.task
        async def step(*, job: Job = Job.current()) -> int:
            told[job.id] = told.get(job.id, 0) + 1
            return job.attempt

        adder = Adder(queue)
        adding = asyncio.create_task(adder.run())
        async with worker(tasks, concurrency=5):
            for number in range(1, rounds + 1):
                await adder.until(60 * number)
                await asyncio.to_thread(shut_down, server)
                await asyncio.to_thread(server.start)
            await adder.until(60 * (rounds + 1))
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)

            async def is_done() -> bool:
                return set(queue.places()) == {"completed"}

            await wait_until_async(is_done, "all jobs to end", timeout_seconds=30)
        kept = invariants.assert_sound(queue.raw, queue_name)
    lost, unexpected = adder.acknowledged_ms.keys() - kept.jobs.keys(), kept.jobs.keys() - adder.attempted
    assert (lost, unexpected) == (set(), set())
    assert {job_id: count for job_id, count in told.items() if count > 1} == {}, "nobody lost a lock"
    assert told.keys() == kept.jobs.keys()


@pytest.mark.requirement("T25")
@pytest.mark.parametrize("rounds", soak.lengths(1, 20))
async def test_with_fsync_every_second_a_kill_loses_two_seconds_at_most(
    start_server: Callable[..., RedisServer], queue_name: str, rounds: int
) -> None:
    """How many were lost is printed. That is none as a rule: what the process has written survives its death."""
    server = start_server(*EVERY_SECOND)
    total_lost = 0
    async with open_queue(server.url, queue_name) as queue:
        adder = Adder(queue)
        for number in range(1, rounds + 1):
            adding = asyncio.create_task(adder.run())
            await adder.until(len(adder.acknowledged_ms) + random.Random(number).randrange(200, 1500))
            killed_ms = clock.now_ms()
            await asyncio.to_thread(server.stop, kill=True)
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
            await asyncio.to_thread(server.start)
            await queue.connection.close()
            kept = invariants.assert_sound(queue.raw, queue_name)
            lost = adder.acknowledged_ms.keys() - kept.jobs.keys()
            total_lost += len(lost)
            assert kept.jobs.keys() <= adder.attempted
            assert all(killed_ms - adder.acknowledged_ms[job_id] <= 2000 for job_id in lost)
            for job_id in lost:
                del adder.acknowledged_ms[job_id]
    print(f"appendfsync everysec: {rounds} kills lost {total_lost} of {len(adder.attempted)} acknowledged jobs")
