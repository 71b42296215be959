"""Carries job schedulers on whose jobs this worker takes, and mends those that another worker left behind."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from toril import errors
from toril.engine.schedulers import Advanced, JobSchedulers
from toril.engine.worker import ActiveJobs
from toril.jobs.outcome import TakenJob

logger = logging.getLogger("toril.worker")


class SchedulerUpkeep:
    """Makes the next job of a scheduler when its current one was taken. What fails is made up for later: by the next
    try, by any other worker's `repair`, or by the operator; the taken job runs whatever happens here."""

    def __init__(self, active: ActiveJobs) -> None:
        self._schedulers = JobSchedulers(active.connection, active.keys, layout=active.taker.layout)
        self._pending: dict[str, str] = {}
        self._told: set[str] = set()

    @property
    def has_pending(self) -> bool:
        """Whether there is anything to carry on."""
        return bool(self._pending)

    def note(self, jobs: Iterable[TakenJob]) -> bool:
        """Remember taken jobs that schedulers made; answers whether there is anything to carry on."""
        for job in jobs:
            scheduler_id = job.scheduler_id
            if scheduler_id:
                self._pending[scheduler_id] = job.id
        return bool(self._pending)

    async def run_once(self) -> None:
        """Carry on what is noted. Raises what tells that Redis is away: then it stays noted."""
        if not self._pending:
            return
        taken = dict(self._pending)
        try:
            self._tell(await self._schedulers.advance(taken))
        except (errors.RedisUnavailableError, errors.UnknownOutcomeError):
            raise
        except errors.RedisError as problem:
            logger.warning("job schedulers: %s", problem)
        for scheduler_id, job_id in taken.items():
            if self._pending.get(scheduler_id) == job_id:
                del self._pending[scheduler_id]

    async def repair(self) -> None:
        """Carry on schedulers whose job was taken, or removed, by somebody who did not. Raises as `run_once`."""
        try:
            self._tell(await self._schedulers.advance_due())
        except (errors.RedisUnavailableError, errors.UnknownOutcomeError):
            raise
        except errors.RedisError as problem:
            logger.warning("job schedulers: %s", problem)

    def _tell(self, turn: Advanced) -> None:
        for scheduler_id, problem in turn.problems.items():
            if scheduler_id not in self._told:
                self._told.add(scheduler_id)
                logger.warning("job scheduler %s makes no more jobs: %s", scheduler_id, problem)
