"""What `decide` is given besides the queue's signals: the manifest's policy, the present workers, or an unknown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ScalingMode(StrEnum):
    """Who decides how many workers there are."""

    AUTO = "Auto"
    """The backlog."""
    MANUAL = "Manual"
    """The user, by `spec.replicas`."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many jobs may start in so long."""

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
    """How long a queue must be without work before its last worker goes."""
    up_window_ms: int = 0
    """Scale up to no more than what was wished throughout this time; 0 = at once."""
    down_window_ms: int = 30_000
    """Scale down to no less than what was wished at any moment of this time."""
    global_concurrency: int | None = None
    """Jobs that may run at a time in the whole queue, by the manifest; None = what `meta` says in Redis."""
    limiter: RateLimit | None = None
    """The workers' own rate limit; one that `meta` holds goes before it."""
    is_suspended: bool = False
    """No new jobs are started: only running ones are worked off."""


@dataclass(frozen=True, slots=True)
class FleetState:
    """The workers of one queue at one moment: pods of a Deployment, or processes of `toril dev`."""

    current: int
    """Replicas that were asked for last; a decision starts from this number."""
    busy: int = 0
    """Workers that hold at least one job; a decision to scale down leaves at least so many."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Redis could not tell. Never the same as "no jobs"."""

    why: str
    """For people, in a sentence without secrets."""
