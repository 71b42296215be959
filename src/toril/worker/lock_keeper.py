"""Keeps the locks of running jobs, all in one call."""

from __future__ import annotations

from toril import errors, periodic
from toril.worker.fetcher import Fetcher

RETRY_SECONDS = 1.0
"""Pause after a failed renewal: a lock has half its length left then."""


class LockKeeper:
    """Renews locks in a loop. A job whose lock another worker holds is stopped."""

    def __init__(self, fetcher: Fetcher, *, renew_ms: int) -> None:
        self._fetcher = fetcher
        renew_seconds = renew_ms / 1000
        self._pace = periodic.Pace(
            renew_seconds, retry_seconds=min(RETRY_SECONDS, renew_seconds), first_seconds=renew_seconds
        )

    async def renew_loop(self) -> None:
        """Renew every `renew_ms`, sooner after a failure. While Redis is away nothing is lost: see `extend_locks`."""
        await periodic.repeat(
            self._pace, self.run_once, expected=errors.RedisError, on_failure=self._fetcher.record_failure
        )

    async def run_once(self) -> int:
        """Renew now; returns how many locks are lost. Raises RedisError."""
        return await self._fetcher.extend_locks()
