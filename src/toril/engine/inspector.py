"""Looks at queues and jobs; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from toril import errors
from toril.engine import scripts
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
        """Jobs by state, under BullMQ's names. `waiting` holds also what BullMQ 5 parks while a queue is paused."""
        found = await self.signals()
        return {
            "waiting": found.waiting,
            "active": found.active,
            "delayed": found.delayed,
            "prioritized": found.prioritized,
            "waiting-children": found.waiting_children,
            "completed": found.completed,
            "failed": found.failed,
        }

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

    async def jobs(self, state: JobState, first: int = 0, last: int = -1) -> list[JobRecord]:
        """Jobs of one state: those that run next first, finished ones oldest first.

        Args:
            first, last: ranks, both included; −1 = to the end.
        """
        keys = {
            JobState.WAITING: keys_of_waiting(self.keys),
            JobState.ACTIVE: (self.keys.active,),
            JobState.DELAYED: (self.keys.delayed,),
            JobState.PRIORITIZED: (self.keys.prioritized,),
            JobState.WAITING_CHILDREN: (self.keys.waiting_children,),
            JobState.COMPLETED: (self.keys.completed,),
            JobState.FAILED: (self.keys.failed,),
        }.get(state, ())
        found: list[JobRecord] = []
        for key in keys:
            is_list = key in (self.keys.wait, self.keys.paused, self.keys.active)
            call = scripts.read_jobs(self.keys, key, is_list=is_list, first=first, last=last)
            page = await self.connection.run(call)
            found += page
        return found

    async def logs(self, job_id: str) -> list[str]:
        """The job's log rows, oldest first."""
        rows = await self.connection.command("LRANGE", self.keys.logs(job_id), 0, -1)
        return [row.decode(errors="replace") for row in rows]


def keys_of_waiting(keys: QueueKeys) -> tuple[str, str]:
    """Waiting jobs are in both lists as long as a BullMQ 5 peer may pause the queue."""
    return keys.wait, keys.paused


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
