"""The queue that engine tests work on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.engine import EngineQueue, open_queue


@pytest.fixture
async def queue(redis_url: str, queue_name: str) -> AsyncIterator[EngineQueue]:
    async with open_queue(redis_url, queue_name) as opened:
        yield opened
