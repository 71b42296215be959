"""Gives back the jobs of vanished workers, in turns with everybody else who does so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from toril import errors
from toril.engine.active import ActiveJobs
from toril.engine.maintenance import stalled
from toril.worker.server_clock import ServerClock

SETTLE_SECONDS = 5.0
"""How long the first check waits, at the start and after Redis was away: time for all others to renew their locks."""


class Recoverer:
    """Makes the stalled check in a loop."""

    def __init__(
        self,
        active: ActiveJobs,
        server_clock: ServerClock,
        *,
        interval_ms: int,
        max_stalled_count: int,
        reachable_seconds: Callable[[], float],
        on_recovered: Callable[[Sequence[str]], None],
    ) -> None:
        """Args:
        reachable_seconds: how long Redis has been answering without a break; 0 = it does not.
        on_recovered: gets the ids of the jobs that were given back.
        """
        self._active = active
        self._server_clock = server_clock
        self._interval_ms = interval_ms
        self._max_stalled_count = max_stalled_count
        self._reachable_seconds = reachable_seconds
        self._on_recovered = on_recovered

    async def recover_loop(self) -> None:
        """Check every `interval_ms`. A check that cannot be made is left to the next turn; the main loop tells why."""
        interval = self._interval_ms / 1000
        settle = min(SETTLE_SECONDS, interval)
        while True:
            left = settle - self._reachable_seconds()
            if left > 0:
                await asyncio.sleep(left)
                continue
            with contextlib.suppress(errors.RedisError):
                await self.run_once()
            await asyncio.sleep(interval)

    async def run_once(self) -> int:
        """Check now; returns how many jobs were given back. Raises what the connection raises."""
        await self._server_clock.sample()
        recovered = await stalled.run_once(
            self._active.connection,
            self._active.keys,
            max_stalled_count=self._max_stalled_count,
            interval_ms=self._interval_ms,
            layout=self._active.taker.layout,
        )
        if recovered:
            self._on_recovered(recovered)
        return len(recovered)
