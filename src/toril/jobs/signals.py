"""The figures of a queue at one moment, from which scaling, status and metrics are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSignals:
    """The figures of one queue, read by one script at one moment. A number without a unit in its name counts jobs."""

    waiting: int = 0
    """In `wait` and in the list `paused` that BullMQ 5 uses while a queue is paused."""
    prioritized: int = 0
    active: int = 0
    delayed: int = 0
    """All delayed jobs, due or not."""
    delayed_due: int = 0
    """Jobs of `delayed` that are due. They stay there until a worker, or the operator, promotes them."""
    waiting_children: int = 0
    """Parents that wait for their children."""
    completed: int = 0
    failed: int = 0
    is_paused: bool = False
    oldest_waiting_ms: int | None = None
    """Age of the job that is next in line, milliseconds; None when nothing waits."""
    next_due_ms: int | None = None
    """When the first delayed job is due, Unix milliseconds; None when nothing is delayed."""
    server_time_ms: int = 0
    """Redis's own clock at the reading, Unix milliseconds."""
    global_concurrency: int | None = None
    """Jobs that may run at a time in the whole queue (`meta.concurrency`); None = no limit."""
    limit_max: int | None = None
    """Jobs that may start within `limit_duration_ms` (`meta.max`); None = the queue has no rate limit of its own."""
    limit_duration_ms: int | None = None
    limit_used: int = 0
    """Jobs that have started in the present window of a rate limit, the queue's or its workers'."""
    locks_by_worker: Mapping[str, int] = field(default_factory=dict)
    """Locked active jobs by worker name (`pb`; empty text for workers without a name)."""
    overdue_schedulers: int | None = 0
    """Job schedulers whose current slot passed a minute ago or more: the slot's job waits for a worker, the series has
    ended, or it cannot be carried on. None = unknown, since the key `repeat` is no sorted set."""

    @property
    def work(self) -> int:
        """Jobs that need a worker now. Of a paused queue, only the active ones do."""
        if self.is_paused:
            return self.active
        return self.waiting + self.prioritized + self.delayed_due + self.active
