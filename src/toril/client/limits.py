"""The part of `Queue` that limits a queue over all its workers, and frees deduplication ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.operations import RateLimit
    from toril.client.options import Duration


class LimitMethods:
    """Methods of `Queue`. Limits are BullMQ's: its workers obey them too, of every version."""

    client: QueueClient

    async def set_global_concurrency(self, jobs: int) -> None:
        """Let at most so many jobs of the queue be active at the same time, over all workers.

        Raises:
            InvalidOptionError: no whole number above 0.
        """
        await self.client.execute(self.client.operations.set_global_concurrency(jobs))

    async def remove_global_concurrency(self) -> None:
        """Let workers run as many jobs as they can."""
        await self.client.execute(self.client.operations.remove_global_concurrency())

    async def get_global_concurrency(self) -> int | None:
        """Most jobs that may be active at once; None = no limit. Raises InvalidOptionError when it is no number."""
        return await self.client.execute(self.client.operations.global_concurrency())

    async def set_global_rate_limit(self, max: int, duration: Duration) -> None:  # noqa: A002 - BullMQ's word
        """Let at most `max` jobs be started in a time, over all workers: `set_global_rate_limit(5, 60)` is 5 a minute.

        It goes before the limits of workers; but where a worker has one, its duration holds (BullMQ's rule).

        Raises:
            InvalidOptionError: no whole number above 0, or no length of time.
        """
        await self.client.execute(self.client.operations.set_global_rate_limit(max, duration))

    async def remove_global_rate_limit(self) -> None:
        """Let jobs be started at any rate, but for the limits that workers have themselves."""
        await self.client.execute(self.client.operations.remove_global_rate_limit())

    async def get_global_rate_limit(self) -> RateLimit | None:
        """The queue's rate limit; None = there is none. Raises InvalidOptionError when it is no number."""
        return await self.client.execute(self.client.operations.global_rate_limit())

    async def rate_limit(self, duration: Duration) -> None:
        """Let no worker start jobs for so long. Only workers with a rate limit obey, the queue's or their own."""
        await self.client.execute(self.client.operations.rate_limit(duration))

    async def remove_rate_limit_key(self) -> bool:
        """End what `rate_limit` began, or begin the current window anew. Returns whether there was one."""
        return await self.client.execute(self.client.operations.remove_rate_limit_key())

    async def get_rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """For how many seconds the rate limit lets no worker start jobs; 0 = jobs may start now.

        Args:
            max_jobs: maximum of a worker's own limit, for a queue that has none.
        """
        return await self.client.execute(self.client.operations.rate_limit_seconds(max_jobs))

    async def get_deduplication_job_id(self, deduplication_id: str) -> str | None:
        """Id of the job because of which others with this deduplication id are not added; None = it is free."""
        return await self.client.execute(self.client.operations.deduplication_job_id(deduplication_id))

    async def remove_deduplication_key(self, deduplication_id: str) -> bool:
        """Free a deduplication id, so that the next job with it is added. Returns whether it was taken."""
        return await self.client.execute(self.client.operations.remove_deduplication_key(deduplication_id))
