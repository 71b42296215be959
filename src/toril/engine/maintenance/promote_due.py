"""Promotion of delayed jobs that are due, for queues whose workers are away or asleep."""

from __future__ import annotations

from dataclasses import dataclass

from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection


@dataclass(frozen=True, slots=True)
class Promoted:
    """What one turn moved."""

    count: int
    """Jobs that can run now."""
    next_due_ms: int | None
    """When the next turn has something to do, Unix milliseconds of Redis's clock; None = nothing is delayed."""


async def run_once(connection: AsyncConnection, keys: QueueKeys, *, layout: scripts.Layout = "6") -> Promoted:
    """Move all jobs that are due, oldest first, and put wake-up tokens back that a worker took along.

    Any number of processes may do so at once, beside workers, who promote by themselves whenever they take jobs. Those
    who only add jobs need not do it: a worker wakes at the next due time.
    """
    moved = 0
    while True:
        count, next_due_ms = await connection.run(scripts.promote_due(keys, layout=layout))
        moved += count
        if not count:
            return Promoted(moved, next_due_ms)
