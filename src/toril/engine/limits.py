"""What holds for a queue as a whole, whoever works on it: jobs at a time, jobs in a time, deduplication ids."""

from __future__ import annotations

from dataclasses import dataclass

from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection
from toril.engine.scripts import Limiter
from toril.engine.scripts.shared import positive

HELD_BACK = 2**53 - 1
"""BullMQ's value of `limiter` while a queue is held back by hand: more than any maximum."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The limits in `meta`; each None when it is not set, or is not a number above 0."""

    concurrency: int | None = None
    max: int | None = None
    duration_ms: int | None = None
    nonsense: tuple[str, ...] = ()
    """The fields of `meta` that are set, but hold no number above 0. Workers survive them; someone should mend them."""

    @property
    def rate(self) -> Limiter | None:
        """The rate limit, if both its halves are there."""
        if self.max is None or self.duration_ms is None:
            return None
        return Limiter(self.max, self.duration_ms)


class LimitedQueue:
    """Reads and writes the limits of one queue. Lengths are milliseconds."""

    def __init__(self, connection: AsyncConnection, keys: QueueKeys, *, layout: scripts.Layout = "6") -> None:
        self.connection = connection
        self.keys = keys
        self.layout: scripts.Layout = layout

    async def read(self) -> QueueLimits:
        """The limits as they are."""
        fields = ("concurrency", "max", "duration")
        stored = await self.connection.command("HMGET", self.keys.meta, *fields)
        numbers = [positive(text) for text in stored]
        nonsense = [
            field
            for field, text, number in zip(fields, stored, numbers, strict=True)
            if text is not None and number is None
        ]
        concurrency, maximum, duration_ms = numbers
        return QueueLimits(concurrency, maximum, duration_ms, tuple(nonsense))

    async def set(self, **limits: int | None) -> None:
        """Set `concurrency`, `max` or `duration`; None removes one. Idle workers look at once."""
        await self.connection.run(scripts.set_limits(self.keys, limits, layout=self.layout))

    async def hold_back(self, duration_ms: int) -> None:
        """Let no worker that has a rate limit take jobs for so long."""
        await self.connection.command("SET", self.keys.limiter, HELD_BACK, "PX", duration_ms)

    async def let_go(self) -> bool:
        """Begin the rate limit's time anew, or end `hold_back`. Returns whether there was one."""
        return bool(await self.connection.command("DEL", self.keys.limiter))

    async def rate_limited_ms(self, worker_max: int | None = None) -> int:
        """How long the rate limit lets nobody take jobs; 0 = not now.

        Args:
            worker_max: maximum of a worker whose limit is meant where the queue has none.
        """
        maximum = (await self.read()).max or worker_max
        used = positive(await self.connection.command("GET", self.keys.limiter)) or 0
        if maximum is None or used < maximum:
            return 0
        return max(0, int(await self.connection.command("PTTL", self.keys.limiter)))

    async def deduplication_winner(self, deduplication_id: str) -> str | None:
        """Id of the job that has a deduplication id; None when it is free."""
        job_id = await self.connection.command("GET", self.keys.deduplication(deduplication_id))
        return None if job_id is None else str(job_id, errors="surrogateescape")

    async def free_deduplication(self, deduplication_id: str) -> bool:
        """Free a deduplication id: the next job is added. Returns whether it was taken."""
        return bool(await self.connection.command("DEL", self.keys.deduplication(deduplication_id)))
