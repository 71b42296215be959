"""Long runs with workers that come and go; only in `make soak`. Each prints what happened."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from support import chaos, invariants, soak, workers
from support.chaos_load import Load, reckon
from support.engine import EngineQueue, open_queue
from support.redis_server import RedisServer
from support.waiting import wait_until_async

pytestmark = pytest.mark.soak

SEED = 20
LANES = 4
JOBS_A_KILL = 10
HOLDING_JOBS = (
    workers.TRACE
    + """
import asyncio, os
from pathlib import Path
from toril import Job, Queue

queue = Queue(os.environ["TORIL_QUEUE"])

@queue.task
async def hold(gate: str, *, job: Job = Job.current()) -> None:
    trace(job.id)
    while Path(gate).exists():
        await asyncio.sleep(0.02)
"""
)


@pytest.fixture
async def durable(queue_name: str) -> AsyncIterator[tuple[RedisServer, EngineQueue]]:
    server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
    async with open_queue(server.url, queue_name) as queue:
        queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", 10_000_000)
        yield server, queue
    server.remove()


@pytest.mark.requirement("T20")
async def test_fifty_thousand_jobs_and_eight_workers_that_come_and_go(
    durable: tuple[RedisServer, EngineQueue], tmp_path: Path
) -> None:
    """Ten minutes of kills, naps and sleeps."""
    server, queue = durable
    fleet = chaos.Fleet(server, queue.keys.queue, tmp_path, ["toril"] * 8, seed=SEED)
    chance = random.Random(SEED)
    try:
        await fleet.start()
        load = Load(queue, fleet, seed=SEED, pause_seconds=0.1)
        deeds = [chance.choice(["kill", "kill", "nap", "sleep"]) for _ in range(soak.scaled(300))]
        await asyncio.gather(load.add_ours(soak.scaled(50_000)), fleet.hurt(deeds, pause_seconds=2))
        await reckon(queue, server, fleet, load, f"eight workers, seed {SEED}")
    finally:
        fleet.close()


class Lane:
    """One queue whose only worker is killed with ten running jobs, again and again; the next one has them recovered."""

    def __init__(self, url: str, queue: EngineQueue, folder: Path) -> None:
        self.longest_seconds = 0.0
        """From a kill to the last of the second starts."""
        self._url = url
        self._queue = queue
        self._folder = folder
        folder.mkdir()

    async def run(self, rounds: int) -> None:
        worker = self._spawn()
        for number in range(1, rounds + 1):
            gate = await self._hold(number * JOBS_A_KILL)
            await asyncio.to_thread(worker.close)
            killed_at = time.monotonic()
            worker = self._spawn()
            await self._until(lambda: self._started(2), number * JOBS_A_KILL, "second starts")
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - killed_at)
            await asyncio.to_thread(gate.unlink)
            await self._until(self._completed, number * JOBS_A_KILL, "ends")
        await asyncio.to_thread(worker.close)

    def _spawn(self) -> workers.WorkerProcess:
        return workers.spawn(
            self._url, self._queue.keys.queue, HOLDING_JOBS, folder=self._folder, concurrency=JOBS_A_KILL,
            options=workers.FAST_LOCKS,
        )  # fmt: skip

    async def _hold(self, total: int) -> Path:
        """Add jobs and wait until they run; they go on until the returned file is gone."""
        gate = self._folder / f"gate-{total}"
        await asyncio.to_thread(gate.touch)
        for _ in range(JOBS_A_KILL):
            await self._queue.add("hold", {"gate": str(gate)})
        await self._until(lambda: self._started(1), total, "first starts")
        return gate

    def _started(self, times: int) -> int:
        path = self._folder / "trace"
        words = sorted(path.read_text().split()) if path.exists() else []
        return sum(len([*same]) >= times for _, same in itertools.groupby(words))

    def _completed(self) -> int:
        return int(self._queue.raw.zcard(self._queue.keys.completed))

    async def _until(self, count: Callable[[], int], wanted: int, what: str) -> None:
        async def found() -> bool:
            return count() >= wanted

        await wait_until_async(found, f"{wanted} {what}", timeout_seconds=60, interval_seconds=0.05)


@pytest.mark.requirement("T01", "T12")
async def test_two_hundred_kills_with_ten_running_jobs_each(redis_url: str, tmp_path: Path) -> None:
    rounds = soak.scaled(200 / LANES)
    queues = [EngineQueue(redis_url, f"lane-{number}") for number in range(LANES)]
    lanes = [Lane(redis_url, queue, tmp_path / queue.keys.queue) for queue in queues]
    for queue in queues:
        queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", 10_000_000)
    await asyncio.gather(*(lane.run(rounds) for lane in lanes))
    for queue in queues:
        jobs = invariants.assert_sound(queue.raw, queue.keys.queue).jobs
        assert len(jobs) == rounds * JOBS_A_KILL
        assert {(job["atm"], job["ats"], job["stc"]) for job in jobs.values()} == {("1", "2", "1")}
        await queue.close()
    longest = max(lane.longest_seconds for lane in lanes)
    print(f"\n{rounds * LANES} kills with {JOBS_A_KILL} jobs each: once more started after at most {longest:.1f} s")
