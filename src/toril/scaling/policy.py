"""What `decide` is given besides the queue's signals: the manifest's policy, the present workers, or an unknown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ScalingMode(StrEnum):
    """What decides the number of workers."""

    AUTO = "Auto"
    """The work in the queue, by `toril.scaling.decide`."""
    MANUAL = "Manual"
    """The field `spec.replicas`."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `max` jobs start within `duration_ms`."""

    max: int
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """Bounds and pace of one queue's workers."""

    mode: ScalingMode = ScalingMode.AUTO
    manual_replicas: int = 0
    """Used in mode `Manual` only."""
    min_replicas: int = 0
    max_replicas: int = 10
    jobs_per_replica: int = 1
    """Jobs that one worker should have at a time: its concurrency."""
    cooldown_ms: int = 60_000
    """The last worker is removed when the queue has had no work for so long."""
    up_window_ms: int = 0
    """The number grows to what was recommended throughout this time; 0 = at once."""
    down_window_ms: int = 30_000
    """The number falls to the highest that was recommended within this time."""
    global_concurrency: int | None = None
    """Jobs that may run at a time in the whole queue, by the manifest; None: the field `concurrency` of `meta`
    counts."""
    limiter: RateLimit | None = None
    """The workers' own rate limit; `max` and `duration` in `meta` go before it."""
    is_suspended: bool = False
    """No new jobs are started; active jobs still need workers."""


@dataclass(frozen=True, slots=True)
class FleetState:
    """The workers of one queue at one moment: pods of a Deployment, or processes of `toril dev`."""

    current: int
    """Replicas that were asked for last; a decision starts from this number."""
    busy: int = 0
    """Workers that hold at least one job; a decision to scale down leaves at least so many."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The queue could not be read. Its number of jobs is unknown, which is never zero."""

    why: str
    """The cause, for people; holds no secret."""
