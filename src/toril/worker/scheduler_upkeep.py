"""Carries job schedulers on whose jobs this worker takes, and mends those that another worker left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from toril import clock, errors
from toril.engine.schedulers import Advanced, JobSchedulers
from toril.engine.worker import ActiveJobs
from toril.jobs.outcome import TakenJob

logger = logging.getLogger("toril.worker")

PAUSE_MS = 5000
"""Between tries while Redis is full: the worker's loop comes by for each job."""


class SchedulerUpkeep:
    """Makes the next job of a scheduler when its current one was taken. What fails is made up for later: by the next
    try, by any other worker's `repair`, or by the operator; the taken job runs whatever happens here."""

    def __init__(self, active: ActiveJobs, on_stuck: Callable[[int], None]) -> None:
        """Args: on_stuck: gets the number of schedulers that cannot be carried on, after each look."""
        self._schedulers = JobSchedulers(active.connection, active.keys, layout=active.taker.layout)
        self._pending: dict[str, str] = {}
        self._on_stuck = on_stuck
        self._stuck: dict[str, str] = {}
        """Schedulers that cannot be carried on, and why. Each was logged once."""
        self._next_try_ms = 0
        """Not 0 = Redis was full at the last try."""

    @property
    def is_due(self) -> bool:
        """Whether there is anything to carry on now."""
        return bool(self._pending) and clock.monotonic_ms() >= self._next_try_ms

    def record_taken(self, jobs: Iterable[TakenJob]) -> bool:
        """Remember taken jobs that schedulers made; answers whether there is anything to carry on."""
        for job in jobs:
            scheduler_id = job.scheduler_id
            if scheduler_id:
                self._pending[scheduler_id] = job.id
        return self.is_due

    async def run_once(self) -> None:
        """Carry on what is noted. It stays noted when Redis is full, and when Redis is away, which is raised."""
        if not self._pending:
            return
        taken = dict(self._pending)
        unseen = {known: problem for known, problem in self._stuck.items() if known not in taken}
        if not await self._try(self._schedulers.advance(taken), unseen):
            return
        for scheduler_id, job_id in taken.items():
            if self._pending.get(scheduler_id) == job_id:
                del self._pending[scheduler_id]

    async def repair(self) -> None:
        """Carry on schedulers whose job was taken, or removed, by somebody who did not. Raises as `run_once`."""
        await self._try(self._schedulers.advance_due(), {})

    async def _try(self, turn: Coroutine[Any, Any, Advanced], unseen: Mapping[str, str]) -> bool:
        """Make one turn. Returns whether it is over, made or never to be made. Raises what tells that Redis is away.

        A full Redis makes no next job. The slot stays due, so that the series goes on when Redis has memory again.

        Args:
            unseen: stuck schedulers that this turn does not look at, and why they are stuck.
        """
        try:
            self._record_stuck({**unseen, **(await turn).problems})
        except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
            if problem.reason is not errors.RedisReason.OUT_OF_MEMORY:
                raise
            if not self._next_try_ms:
                logger.warning("job schedulers make no jobs until Redis has memory again: %s", problem)
            self._next_try_ms = clock.monotonic_ms() + PAUSE_MS
            return False
        except errors.RedisError as problem:
            logger.warning("job schedulers: %s", problem)
        if self._next_try_ms:
            self._next_try_ms = 0
            logger.info("job schedulers make jobs again")
        return True

    def _record_stuck(self, problems: Mapping[str, str]) -> None:
        for scheduler_id, problem in problems.items():
            if self._stuck.get(scheduler_id) != problem:
                logger.warning("job scheduler %s cannot be carried on, and is left as it is: %s", scheduler_id, problem)
        self._stuck = dict(problems)
        self._on_stuck(len(problems))
