"""The job schedulers of a queue: jobs on a calendar or at an interval."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Unpack

from toril.client import schedule_operations
from toril.client.handle import JobHandle
from toril.client.schedule_operations import ScheduleOptions, Scheduler

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.draft import Draft


class Schedulers:
    """The job schedulers of a queue: `queue.schedulers`.

    ```python
    await queue.schedulers.upsert("cleanup", cron="0 2 * * *", tz="Europe/Berlin", draft=cleanup.draft(days=30))
    await queue.schedulers.upsert("health-check", every=300)
    ```

    They are BullMQ's Job Schedulers. The worker that takes a scheduler's job makes the next one; where there is no
    worker, the operator does, for schedules that are Kubernetes objects.
    """

    def __init__(self, client: QueueClient) -> None:
        self.client = client

    async def upsert(
        self,
        scheduler_id: str,
        *,
        name: str | None = None,
        data: Any = None,
        draft: Draft[Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Make a scheduler, or change the one of this id; the job that it has in store is replaced.

        Args:
            name: of the jobs; None = the scheduler's id.
            data: of each job, any JSON value; None = `{}`.
            draft: a task's call, `task.draft(…)`, instead of name, data and the jobs' options.

        Returns:
            A handle of the job that is in store now.

        Raises:
            InvalidOptionError, InvalidPayloadError: refused; nothing was changed.
            JobStateError: the next slots have jobs already.
            RedisUnavailableError, UnknownOutcomeError: the connection failed; to upsert again is safe.
        """
        upserted = schedule_operations.upsert(self.client, scheduler_id, name, data, draft, options)
        return JobHandle(self.client, await self.client.execute(upserted))

    async def remove(self, scheduler_id: str) -> bool:
        """Remove a scheduler with its delayed job; its waiting or running job goes on. Returns whether it existed."""
        return await self.client.execute(schedule_operations.remove(self.client, scheduler_id))

    async def get(self, scheduler_id: str) -> Scheduler | None:
        """One scheduler; None when there is none."""
        return await self.client.execute(schedule_operations.get(self.client, scheduler_id))

    async def list(self, start: int = 0, end: int = -1) -> builtins.list[Scheduler]:
        """The schedulers from rank `start` to `end` (−1 = the last), the one that is due next first."""
        return await self.client.execute(schedule_operations.page(self.client, start, end))

    async def count(self) -> int:
        """How many schedulers there are."""
        return await self.client.execute(schedule_operations.count(self.client))
