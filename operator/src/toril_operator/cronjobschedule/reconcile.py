"""One turn for one CronJobSchedule: observe → plan → apply → status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toril import clock
from toril_operator.cronjobschedule import plan as planning
from toril_operator.cronjobschedule import status as statuses
from toril_operator.cronjobschedule.apply import Applier
from toril_operator.cronjobschedule.observe import Observer
from toril_operator.cronjobschedule.plan import Observed
from toril_operator.cronjobschedule.status import Outcome
from toril_operator.event_recorder import EventReason, EventRecorder
from toril_operator.object_cache import Key, Kind, ObjectCache
from toril_operator.status_writer import StatusWriter
from toril_operator.work_queue import WorkQueue

Json = Mapping[str, Any]

LATE_MS = 2
"""A look at a slot comes so much after it, so that Redis's clock has passed it."""
DELETION_RETRY_SECONDS = 2.0
RETRY_SECONDS = 5.0
"""After what Redis refused, and nobody may tell us that it would not any more."""


class Reconciler:
    """Level-triggered, like that of JobQueues. Nothing else keeps time: each turn has the next one come at the slot."""

    def __init__(
        self,
        *,
        cache: ObjectCache,
        queue: WorkQueue[Key],
        observer: Observer,
        applier: Applier,
        status_writer: StatusWriter,
        events: EventRecorder,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._observer = observer
        self._applier = applier
        self._status_writer = status_writer
        self._events = events

    async def reconcile(self, key: Key) -> bool:
        """One turn; what it could not do it has noted for later itself, so it answers True. Raises KubeError: something
        could not be asked for or written."""
        manifest = self._cache.get(Kind.CRON_JOB_SCHEDULE, key)
        if manifest is None:
            self._forget(key)
            return True
        began_ms = clock.monotonic_ms()
        observed = await self._observer.observe(key, manifest)
        plan = planning.make_plan(observed)
        outcome = await self._applier.carry_out(observed, plan, manifest)
        if outcome.is_released:
            self._emit_remains(observed, outcome)
            self._forget(key)
            return True
        now = statuses.as_time(clock.now_ms() // 1000 * 1000)
        self._status_writer.submit(key, manifest, statuses.build_status(observed, plan, outcome, now))
        self._come_back(key, observed, outcome, clock.monotonic_ms() - began_ms)
        return True

    def _forget(self, key: Key) -> None:
        self._observer.forget(key)
        self._applier.forget(key)
        self._status_writer.forget(key)

    def _come_back(self, key: Key, observed: Observed, outcome: Outcome, took_ms: int) -> None:
        """Look again at the next slot, and at what has failed."""
        if observed.deleted_for_ms is not None:
            self._queue.add_later(key, DELETION_RETRY_SECONDS)
        elif outcome.problem or observed.unreadable is not None:
            self._queue.add_later(key, RETRY_SECONDS)
        elif outcome.record is not None and outcome.record.slot_ms > observed.now_ms:
            pause_ms = outcome.record.slot_ms - observed.now_ms - took_ms + LATE_MS
            self._queue.add_later(key, max(pause_ms, 0) / 1000)

    def _emit_remains(self, observed: Observed, outcome: Outcome) -> None:
        if outcome.problem:
            note = f"its job scheduler may still be in Redis: {outcome.problem}"
            self._events.emit(Kind.CRON_JOB_SCHEDULE, observed.key, observed.uid, EventReason.CLEANUP_ABANDONED, note)
