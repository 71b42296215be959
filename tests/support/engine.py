"""One queue with everything at hand: our engine on one side, a plain client on the other to see what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import redis

from toril.engine.getters import Inspector
from toril.engine.keys import QueueKeys
from toril.engine.producer import Producer
from toril.engine.redis.connection import AsyncConnection, BlockingConnection
from toril.engine.redis.settings import RedisSettings
from toril.engine.schedulers import JobSchedulers
from toril.engine.scripts import Layout
from toril.engine.worker import ActiveJobs, Finish, Taker
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions
from toril.jobs.outcome import TakenJob


class EngineQueue:
    """A queue on a test server. `raw` reads and writes without our code."""

    def __init__(self, url: str, queue: str, layout: Layout = "6") -> None:
        self.settings = RedisSettings.from_url(url)
        self.keys = QueueKeys(queue)
        self.connection = AsyncConnection(self.settings)
        self.blocking = BlockingConnection(self.settings)
        self.producer = Producer(self.connection, self.keys, layout=layout)
        self.inspector = Inspector(self.connection, self.keys)
        self.schedulers = JobSchedulers(self.connection, self.keys, layout=layout)
        self.active = self.worker("worker-1", layout=layout)
        self.raw: Any = redis.Redis(
            host=self.settings.host, port=self.settings.port, db=self.settings.db, decode_responses=True
        )
        self._tokens = 0

    def worker(self, name: str, *, lock_ms: int = 30_000, **taker: Any) -> ActiveJobs:
        return ActiveJobs(self.connection, self.keys, Taker(worker_name=name, lock_ms=lock_ms, **taker))

    def token(self) -> str:
        """A new token, as for every take."""
        self._tokens += 1
        return f"test:{self._tokens}"

    async def add(self, name: str = "job", data: Any = None, **options: Any) -> str:
        """Add one job with BullMQ's option names; return its id."""
        (job_id,) = await self.producer.add([NewJob.create(name, data, JobOptions.from_bullmq(options))])
        return job_id

    async def take(self, count: int = 1) -> list[TakenJob]:
        return (await self.active.take(count, self.token())).jobs

    async def take_one(self) -> TakenJob:
        (job,) = await self.take()
        return job

    async def finish(self, *finishes: Finish, take: int = 0) -> list[TakenJob]:
        """End jobs, each of which must be ours to end; take others."""
        reply = await self.active.finish_and_take(finishes, take, self.token())
        assert reply.codes == [0] * len(finishes)
        return reply.taken.jobs

    def hash(self, job_id: str) -> dict[str, str]:
        return cast("dict[str, str]", self.raw.hgetall(self.keys.job(job_id)))

    def events(self) -> list[dict[str, str]]:
        return [fields for _, fields in self.raw.xrange(self.keys.events)]

    def event_names(self) -> list[str]:
        return [fields["event"] for fields in self.events()]

    def places(self) -> dict[str, list[str]]:
        """Ids by the list or set that holds them; lists with the next one first."""
        keys = self.keys
        found = {
            name: list(reversed(self.raw.lrange(keys.base + name, 0, -1))) for name in ("wait", "paused", "active")
        } | {
            name: self.raw.zrange(keys.base + name, 0, -1)
            for name in ("delayed", "prioritized", "completed", "failed", "waiting-children")
        }
        return {name: ids for name, ids in found.items() if ids}

    async def close(self) -> None:
        await self.connection.close()
        await self.blocking.close()
        self.raw.close()


@asynccontextmanager
async def open_queue(url: str, queue: str, layout: Layout = "6") -> AsyncIterator[EngineQueue]:
    opened = EngineQueue(url, queue, layout)
    try:
        yield opened
    finally:
        await opened.close()
