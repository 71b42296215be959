"""Keeps the locks of running jobs, all in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from toril import errors
from toril.engine.active import ActiveJobs
from toril.worker.executor import Run
from toril.worker.fetcher import Fetcher

RETRY_SECONDS = 1.0
"""Pause after a failed renewal: a lock has half its length left then."""
BATCH = 500


class LockKeeper:
    """Renews in a loop; a job whose lock is somebody else's is stopped."""

    def __init__(self, active: ActiveJobs, fetcher: Fetcher, *, renew_ms: int) -> None:
        self._active = active
        self._fetcher = fetcher
        self._renew_seconds = renew_ms / 1000

    async def renew_loop(self) -> None:
        """Renew every `renew_ms`, sooner after a failure. While Redis is away nothing is lost: see `extend_locks`."""
        pause = self._renew_seconds
        while True:
            await asyncio.sleep(pause)
            try:
                await self.run_once()
                pause = self._renew_seconds
            except errors.RedisError as problem:
                self._fetcher.note_failure(problem)
                pause = min(RETRY_SECONDS, self._renew_seconds)

    async def run_once(self) -> int:
        """Renew all locks now; returns how many were lost. Raises what the connection raises."""
        lost_count = 0
        for runs in _batches(self._fetcher.held):
            lost = await self._active.extend_locks([run.record for run in runs])
            # A job that ended meanwhile has no lock any more and needs none.
            gone = {run for run in runs if run.record.id in lost and self._fetcher.is_running(run)}
            self._fetcher.lose(gone)
            lost_count += len(gone)
        return lost_count


def _batches(runs: Sequence[Run]) -> Iterator[Sequence[Run]]:
    for start in range(0, len(runs), BATCH):
        yield runs[start : start + BATCH]
