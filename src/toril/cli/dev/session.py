"""The loop of local mode: look at all queues, let the pure scaler decide, have the fleets follow, show it."""

from __future__ import annotations

from dataclasses import dataclass, field

from toril.cli.dev.fleet import ProcessFleet
from toril.cli.dev.table import QueueRow
from toril.engine.keys import QueueKeys
from toril.jobs.signals import QueueSignals
from toril.scaling import decide as scaler
from toril.scaling.policy import ScalingPolicy, Unknown
from toril.specs.jobqueue import JobQueueSpec

TURN_SECONDS = 0.25
"""Pause between two looks at Redis: one script call for all queues, and a laptop's user is waiting."""


@dataclass(slots=True, kw_only=True)
class QueueRun:
    """One queue of the session: its spec, its workers, and the latest look at it."""

    spec: JobQueueSpec
    keys: QueueKeys
    policy: ScalingPolicy
    fleet: ProcessFleet
    history: scaler.History = field(default_factory=scaler.History)
    signal: QueueSignals | Unknown = field(default_factory=lambda: Unknown("not looked yet"))
    reason: str = ""
    why: str = ""
    changes: list[tuple[int, int]] = field(default_factory=list)
    """Each change of the wanted replicas: when (monotonic milliseconds), and to how many."""

    @property
    def row(self) -> QueueRow:
        seen = self.signal if isinstance(self.signal, QueueSignals) else None
        ready, wanted = self.fleet.ready, self.fleet.wanted
        return QueueRow(
            queue=self.spec.queue_name,
            waiting=seen and seen.waiting + seen.prioritized,
            active=seen and seen.active,
            delayed=seen and seen.delayed,
            completed=seen and seen.completed,
            failed=seen and seen.failed,
            ready=ready,
            wanted=wanted,
            draining=self.fleet.draining,
            reason=self.reason,
            why=self.why,
        )
