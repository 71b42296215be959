"""Gives back the jobs of vanished workers, and carries on the schedulers that they left.

All workers of a queue do so. Redis lets one worker in an interval make the stalled check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from toril import errors, periodic
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
    """Makes the stalled check, and what goes with it, in a loop."""

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
        """Make a turn every `interval_ms`."""
        await periodic.repeat(
            periodic.Pace(self._interval_ms / 1000),
            self.run_once,
            expected=errors.RedisError,
            on_failure=self._fetcher.record_failure,
        )

    async def run_once(self) -> int:
        """Make one turn, once Redis has been back for long enough.

        Returns:
            How many jobs were given back.

        Raises:
            RedisError: Redis is away, or refuses a step. The steps after it are left to the next turn.
        """
        await self._settle()
        await self._registration.run_once()
        given_back = await self._give_back()
        await self._upkeep.repair()
        await self._check_limits()
        return given_back

    async def _settle(self) -> None:
        """Wait until the connection is old enough: see `SETTLE_SECONDS`."""
        connection = self._active.connection
        while True:
            # Also connects, where the connection was lost unnoticed.
            await self._server_clock.sample()
            settle = SETTLE_SECONDS if connection.connects > 1 else min(SETTLE_SECONDS, self._interval_ms / 1000)
            left = settle - connection.connected_seconds
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _give_back(self) -> int:
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
        """Report limits that are set and hold no number: such a limit has no effect."""
        invalid = (await self._limits.read()).invalid
        if invalid != self._invalid:
            self._invalid = invalid
            self._on_invalid(invalid)
