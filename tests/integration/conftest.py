"""The queue that engine tests work on; a queue whose tasks a test defines, and workers for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support import worker_inside
from support.engine import EngineQueue, open_queue
from support.worker_inside import StartWorker
from toril import Queue


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncIterator[EngineQueue]:
    async with open_queue(redis_url, queue_name) as opened:
        yield opened


@pytest.fixture
async def tasks(redis_url: str, queue_name: str) -> AsyncIterator[Queue]:
    """An empty queue; a test adds tasks to it."""
    async with Queue(queue_name, url=redis_url) as queue:
        yield queue


@pytest.fixture
async def stored(redis_url: str, queue_name: str) -> AsyncIterator[EngineQueue]:
    """The same queue as it is stored."""
    async with open_queue(redis_url, queue_name) as opened:
        yield opened


@pytest.fixture
def worker() -> StartWorker:
    """`async with worker(tasks, concurrency=5): …`"""
    return worker_inside.running
