"""Looks at queues and jobs; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from toril import errors
from toril.engine import getters, scripts, steps
from toril.engine.connection import AsyncConnection
from toril.engine.keys import QueueKeys
from toril.jobs.job import JobRecord, JobState
from toril.jobs.signals import QueueSignals

QUEUES_PER_CALL = 100


class Inspector:
    """Reads one queue over one connection."""

    def __init__(self, connection: AsyncConnection, keys: QueueKeys) -> None:
        self.connection = connection
        self.keys = keys

    async def signals(self) -> QueueSignals:
        """Read the queue's numbers. Raises WrongKeyTypeError when one of its keys is not BullMQ's."""
        (found,) = await read_signals(self.connection, [self.keys])
        if isinstance(found, errors.RedisError):
            raise found
        return found

    async def counts(self) -> dict[str, int]:
        """Jobs by state: see `getters.counts`."""
        return await steps.walk(self.connection, getters.counts(self.keys))

    async def is_paused(self) -> bool:
        return bool(await self.connection.command("HEXISTS", self.keys.meta, "paused"))

    async def state(self, job_id: str) -> JobState:
        """Where the job is; `unknown` when it is nowhere."""
        state, _ = await self.state_and_job(job_id)
        return state

    async def job(self, job_id: str) -> JobRecord | None:
        """The job as stored, or None."""
        _, job = await self.state_and_job(job_id)
        return job

    async def state_and_job(self, job_id: str) -> tuple[JobState, JobRecord | None]:
        """Both, as of one moment."""
        return await self.connection.run(scripts.read_job(self.keys, job_id))

    async def jobs(
        self, state: JobState, first: int = 0, last: int = -1, *, newest_first: bool = False
    ) -> list[JobRecord]:
        """Jobs of one state: see `getters.jobs`."""
        return await steps.walk(
            self.connection, getters.jobs(self.keys, [state], first, last, newest_first=newest_first)
        )

    async def logs(self, job_id: str) -> list[str]:
        """The job's log rows, oldest first."""
        rows = await self.connection.command("LRANGE", self.keys.logs(job_id), 0, -1)
        return [row.decode(errors="replace") for row in rows]


async def read_signals(
    connection: AsyncConnection, queues: Sequence[QueueKeys], *, with_locks: bool = False
) -> list[QueueSignals | errors.RedisError]:
    """Read the numbers of many queues of one Redis, in calls of at most 100 queues.

    Returns:
        One entry a queue, in order: its numbers, or the error that concerns this queue alone.

    Raises:
        RedisError: nothing could be read.
    """
    found: list[QueueSignals | errors.RedisError] = []
    for first in range(0, len(queues), QUEUES_PER_CALL):
        part = queues[first : first + QUEUES_PER_CALL]
        batch = await connection.run(scripts.read_signals(part, with_locks=with_locks))
        found += batch
    return found
