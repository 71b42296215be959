"""Registers this process in Redis, and takes back the jobs of a dead one before it in the same container."""

from __future__ import annotations

import logging

from toril import errors
from toril.engine import identity
from toril.engine.identity import ProcessIdentity
from toril.engine.worker import ActiveJobs
from toril.worker.finish_codes import is_outage
from toril.worker.reporter import Reporter

logger = logging.getLogger("toril.worker")


class Registration:
    """What Redis knows of this process.

    A Redis that refuses to store it (a right is missing, say) is no trouble: jobs are then charged as BullMQ does.
    """

    def __init__(
        self,
        active: ActiveJobs,
        who: ProcessIdentity,
        reporter: Reporter,
        *,
        max_stalled_count: int,
        interval_ms: int,
    ) -> None:
        """Args: interval_ms: how often `run_once` is called."""
        self.is_done = False
        """Whether the start of this process is registered, or was refused."""
        self._active = active
        self.who = who
        self._reporter = reporter
        self._max_stalled_count = max_stalled_count
        self._lifetime_ms = max(identity.LIFETIME_MS, 3 * interval_ms)

    async def run_once(self) -> None:
        """Register, or renew that. Raises what tells that Redis is away."""
        try:
            recovered = await identity.register(
                self._active.connection,
                self._active.keys,
                self.who,
                is_start=not self.is_done,
                max_stalled_count=self._max_stalled_count,
                lifetime_ms=self._lifetime_ms,
                layout=self._active.taker.layout,
            )
        except errors.RedisError as problem:
            if is_outage(problem):
                raise
            logger.debug("this process is not registered: %s", problem)
            self.is_done = True
            return
        self.is_done = True
        if recovered:
            self._reporter.recovered(recovered)
