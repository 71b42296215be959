"""Gives back the jobs of vanished workers and carries on the schedulers that they left, in turns with everybody else
who does so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from toril import errors
from toril.engine.limits import LimitedQueue
from toril.engine.maintenance import recover_stalled
from toril.engine.worker import ActiveJobs
from toril.worker.fetcher import Fetcher
from toril.worker.registration import Registration
from toril.worker.scheduler_upkeep import SchedulerUpkeep
from toril.worker.server_clock import ServerClock

SETTLE_SECONDS = 5.0
"""How long the first check waits after Redis was away: time for all others to come back and renew their locks. At the
start too, since Redis may have been away until then, but there no longer than an interval."""


class Recoverer:
    """Makes the stalled check in a loop."""

    def __init__(
        self,
        active: ActiveJobs,
        fetcher: Fetcher,
        server_clock: ServerClock,
        upkeep: SchedulerUpkeep,
        registration: Registration,
        *,
        interval_ms: int,
        max_stalled_count: int,
        on_recovered: Callable[[Sequence[str]], None],
        on_invalid: Callable[[Sequence[str]], None],
    ) -> None:
        """Args:
        on_recovered: gets the ids of the jobs that were given back.
        on_invalid: gets the limits of the queue that hold no number, when that has changed.
        """
        self._active = active
        self._fetcher = fetcher
        self._server_clock = server_clock
        self._upkeep = upkeep
        self._registration = registration
        self._interval_ms = interval_ms
        self._max_stalled_count = max_stalled_count
        self._on_recovered = on_recovered
        self._on_invalid = on_invalid
        self._limits = LimitedQueue(active.connection, active.keys)
        self._invalid: Sequence[str] = ()

    async def recover_loop(self) -> None:
        """Check every `interval_ms`, but not while Redis is away or has just come back."""
        interval = self._interval_ms / 1000
        connection = self._active.connection
        while True:
            try:
                # Also connects, where the connection was lost unnoticed.
                await self._server_clock.sample()
                settle = SETTLE_SECONDS if connection.connects > 1 else min(SETTLE_SECONDS, interval)
                left = settle - connection.connected_seconds
                if left > 0:
                    await asyncio.sleep(left)
                    continue
                await self._registration.run_once()
                await self.run_once()
                await self._upkeep.repair()
                await self._check_limits()
            except errors.RedisError as problem:
                self._fetcher.record_failure(problem)
            await asyncio.sleep(interval)

    async def run_once(self) -> int:
        """Check now; returns how many jobs were given back. Raises what the connection raises."""
        recovered = await recover_stalled.run_once(
            self._active.connection,
            self._active.keys,
            max_stalled_count=self._max_stalled_count,
            interval_ms=self._interval_ms,
            layout=self._active.taker.layout,
        )
        if recovered:
            self._on_recovered(recovered)
        return len(recovered)

    async def _check_limits(self) -> None:
        """Someone has to hear of limits that hold nobody back, though they are set."""
        invalid = (await self._limits.read()).invalid
        if invalid != self._invalid:
            self._invalid = invalid
            self._on_invalid(invalid)
