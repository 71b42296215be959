"""What holds for a queue as a whole, whoever works on it: jobs at a time, jobs in a time, deduplication ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation, execute
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
    invalid: tuple[str, ...] = ()
    """The fields of `meta` that are set and hold no number above 0. Workers go on as without them, and log them."""

    @property
    def rate(self) -> Limiter | None:
        """The rate limit, if both its halves are there."""
        if self.max is None or self.duration_ms is None:
            return None
        return Limiter(self.max, self.duration_ms)


def read(keys: QueueKeys) -> Operation[QueueLimits]:
    """Return the limits in `meta`. Redis: HMGET."""
    fields = ("concurrency", "max", "duration")
    stored = yield ("HMGET", keys.meta, *fields)
    numbers = [positive(text) for text in stored]
    invalid = [
        field
        for field, text, number in zip(fields, stored, numbers, strict=True)
        if text is not None and number is None
    ]
    concurrency, maximum, duration_ms = numbers
    return QueueLimits(concurrency, maximum, duration_ms, tuple(invalid))


def write(keys: QueueKeys, limits: Mapping[str, int | None], *, layout: scripts.Layout = "6") -> Operation[None]:
    """Set `concurrency`, `max` or `duration` (milliseconds) in `meta`; None removes the field. Wakes idle workers."""
    yield scripts.set_limits(keys, limits, layout=layout)


def hold_back(keys: QueueKeys, duration_ms: int) -> Operation[None]:
    """Let no worker that has a rate limit take jobs for `duration_ms`. Redis: SET on `limiter`."""
    yield ("SET", keys.limiter, HELD_BACK, "PX", duration_ms)


def let_go(keys: QueueKeys) -> Operation[bool]:
    """End `hold_back`, or begin the current window anew; return whether `limiter` existed. Redis: DEL."""
    removed = yield ("DEL", keys.limiter)
    return bool(removed)


def rate_limited_ms(keys: QueueKeys, worker_max: int | None = None) -> Operation[int]:
    """Return for how many milliseconds the rate limit lets no worker take jobs; 0 = it lets them take now.

    Args:
        worker_max: a worker's own maximum, used where the queue has none.
    """
    limits = yield from read(keys)
    maximum = limits.max or worker_max
    used = positive((yield ("GET", keys.limiter))) or 0
    if maximum is None or used < maximum:
        return 0
    left_ms = yield ("PTTL", keys.limiter)
    return max(0, int(left_ms))


def deduplication_job_id(keys: QueueKeys, deduplication_id: str) -> Operation[str | None]:
    """Return the id of the job that holds a deduplication id; None = the id is free. Redis: GET."""
    job_id = yield ("GET", keys.deduplication(deduplication_id))
    return None if job_id is None else str(job_id, errors="surrogateescape")


def remove_deduplication_key(keys: QueueKeys, deduplication_id: str) -> Operation[bool]:
    """Free a deduplication id; return whether a job held it. Redis: DEL."""
    removed = yield ("DEL", keys.deduplication(deduplication_id))
    return bool(removed)


class LimitedQueue:
    """Reads and writes the limits of one queue over one connection of an event loop."""

    def __init__(self, connection: AsyncConnection, keys: QueueKeys, *, layout: scripts.Layout = "6") -> None:
        self.connection = connection
        self.keys = keys
        self.layout: scripts.Layout = layout

    async def read(self) -> QueueLimits:
        """As the operation `read`."""
        return await execute(self.connection, read(self.keys))

    async def set(self, **limits: int | None) -> None:
        """As the operation `write`."""
        await execute(self.connection, write(self.keys, limits, layout=self.layout))

    async def hold_back(self, duration_ms: int) -> None:
        """As the operation `hold_back`."""
        await execute(self.connection, hold_back(self.keys, duration_ms))

    async def let_go(self) -> bool:
        """As the operation `let_go`."""
        return await execute(self.connection, let_go(self.keys))

    async def rate_limited_ms(self, worker_max: int | None = None) -> int:
        """As the operation `rate_limited_ms`."""
        return await execute(self.connection, rate_limited_ms(self.keys, worker_max))
