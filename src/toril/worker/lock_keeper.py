"""Keeps the locks of running jobs, all in one call."""

from __future__ import annotations

import asyncio

from toril import errors
from toril.worker.fetcher import Fetcher

RETRY_SECONDS = 1.0
"""Pause after a failed renewal: a lock has half its length left then."""


class LockKeeper:
    """Renews in a loop; a job whose lock is somebody else's is stopped."""

    def __init__(self, fetcher: Fetcher, *, renew_ms: int) -> None:
        self._fetcher = fetcher
        self._renew_seconds = renew_ms / 1000

    async def renew_loop(self) -> None:
        """Renew every `renew_ms`, sooner after a failure. While Redis is away nothing is lost: see `extend_locks`."""
        pause = self._renew_seconds
        while True:
            await asyncio.sleep(pause)
            try:
                await self._fetcher.extend_locks()
                pause = self._renew_seconds
            except errors.RedisError as problem:
                self._fetcher.record_failure(problem)
                pause = min(RETRY_SECONDS, self._renew_seconds)
