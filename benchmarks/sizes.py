"""Measures what adding, taking and ending a job costs Redis when the queue holds a thousand jobs, and a million."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from benchmarks import processing, servers
from benchmarks.servers import Server
from toril import clock
from toril.engine.keys import QueueKeys
from toril.engine.producer import Producer
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings
from toril.engine.worker import ActiveJobs, Finish, Taker
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

PLACES = ("waiting", "delayed", "completed")
STEPS = ("adding", "taking", "finishing")
FEW = 1_000
BATCH = 50
ROUNDS = 60
QUEUE = "bench"

# Only fills: the jobs are as `add` and a worker leave them.
FILL_COMPLETED = """
local base, first, last, data, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
for number = first, last do
  local id = 'old-' .. string.format('%d', number)
  redis.call('HSET', base .. id, 'name', 'send', 'data', data, 'opts', '{"attempts":0}', 'timestamp', now, 'delay', '0',
    'priority', '0', 'processedOn', now, 'ats', '1', 'atm', '1', 'returnvalue', 'null', 'finishedOn', now)
  redis.call('ZADD', base .. 'completed', string.format('%d', tonumber(now) + number), id)
end
"""


def compare(many: int) -> dict[tuple[str, str], float]:
    """For each place and step: Redis's time for a call with `many` jobs there, divided by that with a thousand."""
    found = {}
    for place in PLACES:
        with servers.fresh() as few_server, servers.fresh() as many_server:
            _fill(few_server, place, FEW)
            _fill(many_server, place, many)
            few, lots = asyncio.run(_alternate((few_server, many_server)))
            for step in STEPS:
                found[place, step] = lots[step] / few[step]
    return found


def _fill(server: Server, place: str, count: int) -> None:
    if place == "completed":
        script = server.client.register_script(FILL_COMPLETED)
        data, now = NewJob.create("send", processing.DATA, JobOptions()).data_json, clock.now_ms() - 10 * count
        for first in range(0, count, 2_000):
            script(args=[f"bull:{QUEUE}:", first, min(first + 2_000, count) - 1, data, now])
        return
    options = {"delay": 86_400_000} if place == "delayed" else None
    processing.fill(server, QUEUE, count, processing.DATA, options)


async def _alternate(all_servers: Sequence[Server]) -> list[dict[str, float]]:
    """Take turns with small batches, so that what else the machine does meets both alike."""
    sides = [_Side(server) for server in all_servers]
    for number in range(ROUNDS):
        for side in sides:
            await side.one_round(counts=number >= ROUNDS // 10)
    for side in sides:
        await side.close()
    return [side.seconds for side in sides]


class _Side:
    """One server with its numbers: microseconds in scripts by step."""

    def __init__(self, server: Server) -> None:
        self._server = server
        keys = QueueKeys(QUEUE)
        self._connection = AsyncConnection(RedisSettings.from_url(server.url))
        self._producer = Producer(self._connection, keys)
        self._active = ActiveJobs(self._connection, keys, Taker(worker_name="bench"))
        self._new = [NewJob.create("send", processing.DATA, JobOptions())] * BATCH
        self.seconds = dict.fromkeys(STEPS, 0.0)

    async def one_round(self, *, counts: bool) -> None:
        """Add a batch, take one, end it."""

        async def timed(step: str, work: Callable[[], Awaitable[object]]) -> object:
            before = self._in_scripts()
            done = await work()
            if counts:
                self.seconds[step] += self._in_scripts() - before
            return done

        await timed("adding", lambda: self._producer.add(self._new))
        taken = None

        async def take() -> None:
            nonlocal taken
            taken = await self._active.take(BATCH, "bench:1")

        await timed("taking", take)
        assert taken is not None
        ends = [Finish.completed(job, "null") for job in taken.jobs]
        await timed("finishing", lambda: self._active.finish_and_take(ends, 0, "bench:2"))

    async def close(self) -> None:
        await self._connection.close()

    def _in_scripts(self) -> float:
        commands = self._server.commands()
        return sum(commands.get(name, (0, 0))[1] for name in ("evalsha", "eval")) / 1e6
