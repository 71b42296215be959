"""The part of `Queue` that limits a queue as a whole, whoever works on it, and frees deduplication ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toril import errors
from toril.enqueue_options import Duration, milliseconds
from toril.jobs import deduplication

if TYPE_CHECKING:
    from toril.engine.limits import LimitedQueue, QueueLimits

MAX_LIMIT = 2**31


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `max` jobs are started in any window of `seconds`, which begins with its first job."""

    max: int
    seconds: float


class LimitMethods(ABC):
    """Methods of `Queue`. Limits are BullMQ's: its workers obey them too, of every version."""

    @abstractmethod
    def limits(self) -> LimitedQueue:
        """The engine's side of them, on this event loop's connection."""

    async def set_global_concurrency(self, jobs: int) -> None:
        """Let at most so many jobs of the queue be active at the same time, over all workers.

        Raises:
            InvalidOptionError: no whole number above 0.
        """
        await self.limits().set(concurrency=_limit(jobs, "concurrency"))

    async def remove_global_concurrency(self) -> None:
        """Let workers run as many jobs as they can."""
        await self.limits().set(concurrency=None)

    async def get_global_concurrency(self) -> int | None:
        """How many jobs may be active at the same time; None = no limit. Raises InvalidOptionError for nonsense."""
        found = await self.limits().read()
        _refuse_nonsense(found, "concurrency")
        return found.concurrency

    async def set_global_rate_limit(self, max: int, duration: Duration) -> None:  # noqa: A002 - BullMQ's word
        """Let at most `max` jobs be started in a time, over all workers: `set_global_rate_limit(5, 60)` is 5 a minute.

        It goes before the limits of workers; but where a worker has one, its duration holds (BullMQ's rule).

        Raises:
            InvalidOptionError: no whole number above 0, or no length of time.
        """
        duration_ms = milliseconds(duration, "duration")
        await self.limits().set(max=_limit(max, "max"), duration=_limit(duration_ms, "duration"))

    async def remove_global_rate_limit(self) -> None:
        """Let jobs be started at any rate, but for the limits that workers have themselves."""
        await self.limits().set(max=None, duration=None)

    async def get_global_rate_limit(self) -> RateLimit | None:
        """The queue's rate limit; None = there is none. Raises InvalidOptionError for nonsense."""
        found = await self.limits().read()
        _refuse_nonsense(found, "max", "duration")
        return None if found.rate is None else RateLimit(found.rate.max, found.rate.duration_ms / 1000)

    async def rate_limit(self, duration: Duration) -> None:
        """Let nobody start jobs for so long. Only workers with a rate limit obey, the queue's or their own."""
        await self.limits().hold_back(_limit(milliseconds(duration, "duration"), "duration"))

    async def remove_rate_limit_key(self) -> bool:
        """End what `rate_limit` began, or begin the current window anew. Returns whether there was one."""
        return await self.limits().let_go()

    async def get_rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """For how many seconds the rate limit lets nobody start jobs; 0 = not now.

        Args:
            max_jobs: maximum of a worker's own limit, for a queue that has none.
        """
        return await self.limits().rate_limited_ms(max_jobs) / 1000

    async def get_deduplication_job_id(self, deduplication_id: str) -> str | None:
        """Id of the job because of which others with this deduplication id are not added; None = it is free."""
        return await self.limits().deduplication_winner(deduplication.checked_id(deduplication_id, "deduplication_id"))

    async def remove_deduplication_key(self, deduplication_id: str) -> bool:
        """Free a deduplication id, so that the next job with it is added. Returns whether it was taken."""
        return await self.limits().free_deduplication(deduplication.checked_id(deduplication_id, "deduplication_id"))


def _limit(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_LIMIT:
        raise errors.InvalidOptionError(field, f"must be a whole number from 1 to {MAX_LIMIT}")
    return value


def _refuse_nonsense(found: QueueLimits, *fields: str) -> None:
    for field in fields:
        if field in found.nonsense:
            raise errors.InvalidOptionError(
                f"meta.{field}", "what is stored is no number above 0: set it, or remove it"
            )
