"""Adds jobs to a queue, and pauses and resumes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice

from toril import clock, errors
from toril.engine import scripts
from toril.engine.connection import AsyncConnection
from toril.engine.keys import QueueKeys
from toril.jobs.job import NewJob

JOBS_PER_CALL = 500
"""One call holds Redis for a few milliseconds at most; more jobs go in several calls."""
BYTES_PER_CALL = 4 * 1024 * 1024
RETRY_PAUSES_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""Pauses before a repeated add of jobs that have ids."""


class Producer:
    """Adds to one queue over one connection."""

    def __init__(self, connection: AsyncConnection, keys: QueueKeys, *, layout: scripts.Layout = "6") -> None:
        self.connection = connection
        self.keys = keys
        self.layout: scripts.Layout = layout

    async def add(self, jobs: Sequence[NewJob]) -> list[str]:
        """Add jobs and return their ids, in order. An id that is there already is returned and nothing is changed.

        Jobs that all have an id are added again when the connection fails; the id keeps them single.

        Raises:
            RedisUnavailableError: none of the jobs that lack an id was added.
            UnknownOutcomeError: jobs without an id may have been added.
        """
        ids: list[str] = []
        for part in parts_of(jobs):
            ids += await self._add_part(part)
        return ids

    async def pause(self) -> bool:
        """Pause the queue; return whether it was running."""
        return await self.connection.run(scripts.pause(self.keys, layout=self.layout))

    async def resume(self) -> bool:
        """Resume the queue; return whether it was paused."""
        return await self.connection.run(scripts.resume(self.keys))

    async def _add_part(self, jobs: Sequence[NewJob]) -> list[str]:
        call = scripts.add_jobs(self.keys, jobs, now_ms=clock.now_ms(), layout=self.layout)
        for pause in repeat_pauses(jobs):
            try:
                return await self.connection.run(call)
            except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
                if not is_cut(problem):
                    raise
                await asyncio.sleep(pause)
        return await self.connection.run(call)


def repeat_pauses(jobs: Sequence[NewJob]) -> tuple[float, ...]:
    """Pauses before repetitions: none unless every job has an id."""
    return RETRY_PAUSES_SECONDS if all(job.options.job_id for job in jobs) else ()


def is_cut(problem: errors.RedisError) -> bool:
    """Whether the connection failed, as against a server that answered and refused."""
    return problem.reason in (errors.RedisReason.CONNECTION_REFUSED, errors.RedisReason.TIMEOUT)


def parts_of(jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    """Cut into calls of bounded number and size."""
    rest = iter(jobs)
    while part := list(islice(rest, JOBS_PER_CALL)):
        size = 0
        current: list[NewJob] = []
        for job in part:
            if current and size + len(job.data_json) > BYTES_PER_CALL:
                yield current
                size, current = 0, []
            current.append(job)
            size += len(job.data_json)
        yield current
