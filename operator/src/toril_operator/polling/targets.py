"""What is read for a JobQueue, and what a reading found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from toril.engine.keys import QueueKeys
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason
from toril.jobs.signals import QueueSignals
from toril.scaling.policy import Unknown


@dataclass(frozen=True, slots=True)
class Target:
    """A queue to be read."""

    settings: RedisSettings
    queue: str
    prefix: str
    interval_ms: int
    keys: QueueKeys = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", QueueKeys(self.queue, self.prefix))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one reading told."""

    signal: QueueSignals | Unknown
    reason: RedisReason | None
    """Why the signal is unknown; None when it is known."""
    taken_ms: int
    """When the reading began, monotonic clock: what was written before is in it."""
    stuck_schedulers: Mapping[str, str] = field(default_factory=dict)
    """Ids of job schedulers that cannot be carried on, and why."""
