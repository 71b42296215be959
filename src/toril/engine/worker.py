"""What a worker does with Redis: take jobs, keep their locks, end them, report their progress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from toril import errors
from toril.engine import administration, operations, scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis import key_types
from toril.engine.redis.connection import AsyncConnection, Call
from toril.engine.scripts import FinishReply, Limiter, Taken, Taker
from toril.jobs.children import Children
from toril.jobs.outcome import Finish, TakenJob
from toril.jobs.parents import ParentLink

__all__ = ["ActiveJobs", "Finish", "FinishReply", "Limiter", "Taken", "TakenJob", "Taker"]

TAKE_BYTES = 16 * 1024 * 1024
"""Data of jobs taken by one call: it is to come in time, also over a slow network."""
EXTEND_BATCH = 500
"""Locks renewed by one call."""


def count_of_such(jobs: Sequence[TakenJob]) -> int:
    """How many jobs may be taken by one call, if they are like these."""
    return max(1, TAKE_BYTES // max(1, *(job.data_bytes for job in jobs)))


class ActiveJobs:
    """One worker's side of one queue. Makes calls; keeps no list of jobs."""

    def __init__(self, connection: AsyncConnection, keys: QueueKeys, taker: Taker) -> None:
        self.connection = connection
        self.keys = keys
        self.taker = taker

    async def take(self, count: int, token: str) -> Taken:
        """Take up to `count` jobs and lock them.

        Args:
            token: new for every call, so that a lock distinguishes this run of a job from an older one.

        Raises:
            UnknownOutcomeError: jobs may have been taken. `adopt` finds them; only then take again.
        """
        return (await self.finish_and_take([], count, token)).taken

    def finishing_and_taking(self, finishes: Sequence[Finish], count: int, token: str) -> Call[FinishReply]:
        """The call of `finish_and_take`, to be sent by `connection.send`."""
        return scripts.finish_and_take(self.keys, self.taker, finishes, count, token)

    async def finish_and_take(self, finishes: Sequence[Finish], count: int, token: str) -> FinishReply:
        """End jobs and take up to `count` new ones (0 = none).

        Raises:
            UnknownOutcomeError: both may have happened. Send the same finishes again with `count` 0, then `adopt`.
        """
        return await self.connection.run(self.finishing_and_taking(finishes, count, token))

    async def extend_locks(self, jobs: Sequence[TakenJob]) -> set[str]:
        """Keep jobs ours for another lock length; return the ids that are no longer ours.

        A lock that ran out is taken back when the job is still active and no worker has started it since.
        """
        lost: set[str] = set()
        for start in range(0, len(jobs), EXTEND_BATCH):
            batch = jobs[start : start + EXTEND_BATCH]
            call = scripts.extend_locks(self.keys, batch, self.taker.lock_ms)
            ids = await self.connection.run(call)
            lost |= ids
        return lost

    async def adopt(self, token_prefix: str, known_ids: Iterable[str]) -> list[TakenJob]:
        """Find jobs that our tokens lock and that we do not know of: taken by a call whose reply was lost.

        One larger than `Taker.max_job_bytes` comes as failed, unread: its size may be why the reply was lost.
        """
        known, found, largest = list(known_ids), list[TakenJob](), self.taker.max_job_bytes
        while part := await self.connection.run(scripts.adopt_jobs(self.keys, token_prefix, known, largest)):
            found += part
            known += [job.id for job in part]
        return found

    async def wake(self) -> None:
        """Pass a wake-up on that came to the wrong worker: the marker gets what the queue's jobs call for now.

        Redis: `promote_due`, which is carried out also when Redis is full; ZADD would be refused.
        """
        await self.connection.run(scripts.promote_due(self.keys, layout=self.taker.layout))

    async def wrong_key(self) -> errors.WrongKeyTypeError | None:
        """What is wrong with the queue's own keys; None when each has the type that BullMQ gives it."""
        return await key_types.find_wrong_key(self.connection, self.keys)

    async def server_time_ms(self) -> int:
        """The server's clock, Unix milliseconds."""
        seconds, microseconds = await self.connection.command("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def progress(self, job_id: str, progress_json: str) -> None:
        """Store a job's progress. Raises JobNotFoundError when it is gone."""
        self._expect(job_id, await self.connection.run(scripts.update_progress(self.keys, job_id, progress_json)))

    async def update_data(self, job_id: str, data_json: str) -> None:
        """Replace a job's data. Raises JobNotFoundError when it is gone."""
        self._expect(job_id, await self.connection.run(scripts.update_data(self.keys, job_id, data_json)))

    async def log(self, job_id: str, row: str, keep: int | None = None) -> int:
        """Append a row to a job's log and return how many there are. Raises JobNotFoundError when it is gone."""
        rows = await self.connection.run(scripts.add_log(self.keys, job_id, row, keep))
        self._expect(job_id, rows >= 0)
        return rows

    async def children(self, job_id: str) -> Children:
        """What became of a job's children."""
        return await self.connection.run(scripts.read_children(self.keys, job_id))

    async def remove_unprocessed_children(self, job_id: str) -> None:
        """Remove the job's children that have not ended and that no worker holds, and their children in turn."""
        work = administration.remove_unprocessed_children(self.keys, job_id, layout=self.taker.layout)
        await operations.execute(self.connection, work)

    def as_parent(self, job_id: str) -> ParentLink:
        """What ties children to a job of this queue."""
        return ParentLink(job_id, self.keys.qualified_name)

    def _expect(self, job_id: str, is_there: bool) -> None:
        if not is_there:
            raise errors.JobNotFoundError(f"job {job_id} of queue {self.keys.queue} is gone")
