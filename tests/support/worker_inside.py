"""Workers inside the test's own process, for tasks that a test defines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from toril import Queue
from toril.engine.redis.settings import RedisSettings
from toril.worker.processors import Processors
from toril.worker.settings import WorkerSettings
from toril.worker.worker import Worker

StartWorker = Callable[..., AbstractAsyncContextManager[Worker]]

_numbers = itertools.count(1)


@asynccontextmanager
async def running(queue: Queue, **settings: Any) -> AsyncIterator[Worker]:
    """A worker of the queue's tasks, drained at the end of the block. `settings`: `WorkerSettings`' own, or `url`."""
    url = settings.pop("url", None)
    chosen = {
        "queue": queue.name,
        "processor": {},
        "redis": RedisSettings.from_url(url) if url else queue.settings,
        "http_port": 0,
        "name": f"worker-{next(_numbers)}",
        **settings,
    }
    worker = Worker(WorkerSettings(**chosen), Processors.of_queues(queue.name, [queue]))
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        assert await asyncio.wait_for(task, 60) == 0
