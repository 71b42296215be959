"""The twin of `toril.client.limits`, for code without an event loop. Written by tools/sync_twins.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.operations import RateLimit
    from toril.client.options import Duration


class SyncLimitMethods:
    """Methods of `queue.sync`. Limits are BullMQ's: its workers obey them too, of every version."""

    client: QueueClient

    def set_global_concurrency(self, jobs: int) -> None:
        """Let at most so many jobs of the queue be active at the same time, over all workers.

        Raises:
            InvalidOptionError: no whole number above 0.
        """
        self.client.execute_sync(self.client.operations.set_global_concurrency(jobs))

    def remove_global_concurrency(self) -> None:
        """Let workers run as many jobs as they can."""
        self.client.execute_sync(self.client.operations.remove_global_concurrency())

    def get_global_concurrency(self) -> int | None:
        """Most jobs that may be active at once; None = no limit. Raises InvalidOptionError when it is no number."""
        return self.client.execute_sync(self.client.operations.global_concurrency())

    def set_global_rate_limit(self, max: int, duration: Duration) -> None:  # noqa: A002 - BullMQ's word
        """Let at most `max` jobs be started in a time, over all workers: `set_global_rate_limit(5, 60)` is 5 a minute.

        It goes before the limits of workers; but where a worker has one, its duration holds (BullMQ's rule).

        Raises:
            InvalidOptionError: no whole number above 0, or no length of time.
        """
        self.client.execute_sync(self.client.operations.set_global_rate_limit(max, duration))

    def remove_global_rate_limit(self) -> None:
        """Let jobs be started at any rate, but for the limits that workers have themselves."""
        self.client.execute_sync(self.client.operations.remove_global_rate_limit())

    def get_global_rate_limit(self) -> RateLimit | None:
        """The queue's rate limit; None = there is none. Raises InvalidOptionError when it is no number."""
        return self.client.execute_sync(self.client.operations.global_rate_limit())

    def rate_limit(self, duration: Duration) -> None:
        """Let no worker start jobs for so long. Only workers with a rate limit obey, the queue's or their own."""
        self.client.execute_sync(self.client.operations.rate_limit(duration))

    def remove_rate_limit_key(self) -> bool:
        """End what `rate_limit` began, or begin the current window anew. Returns whether there was one."""
        return self.client.execute_sync(self.client.operations.remove_rate_limit_key())

    def get_rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """For how many seconds the rate limit lets no worker start jobs; 0 = jobs may start now.

        Args:
            max_jobs: maximum of a worker's own limit, for a queue that has none.
        """
        return self.client.execute_sync(self.client.operations.rate_limit_seconds(max_jobs))

    def get_deduplication_job_id(self, deduplication_id: str) -> str | None:
        """Id of the job because of which others with this deduplication id are not added; None = it is free."""
        return self.client.execute_sync(self.client.operations.deduplication_job_id(deduplication_id))

    def remove_deduplication_key(self, deduplication_id: str) -> bool:
        """Free a deduplication id, so that the next job with it is added. Returns whether it was taken."""
        return self.client.execute_sync(self.client.operations.remove_deduplication_key(deduplication_id))
