"""Looks at everything that a CronJobSchedule's plan depends on: its spec, its JobQueue, its record in Redis."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from toril import clock, errors
from toril.engine.schedulers import JobSchedulers
from toril.scaling.policy import Unknown
from toril.specs import cron_job_schedule as specs
from toril.specs import jobqueue
from toril_operator import labels
from toril_operator.cronjobschedule.plan import Observed
from toril_operator.object_cache import Key, Kind, ObjectCache, age_of, queue_of, scheduler_of
from toril_operator.polling import endpoints
from toril_operator.polling.pollers import Pollers
from toril_operator.spec_cache import SpecCache
from toril_operator.status_writer import StatusWriter

Json = Mapping[str, Any]


class Observer:
    """The queue's Redis is reached by the connection over which its JobQueue is read."""

    def __init__(self, cache: ObjectCache, pollers: Pollers, status_writer: StatusWriter) -> None:
        self._cache = cache
        self._pollers = pollers
        self._status_writer = status_writer
        self._parsed = SpecCache(specs.parse_cron_job_schedule)

    async def observe(self, key: Key, manifest: Json) -> Observed:
        """Look at one CronJobSchedule."""
        metadata = manifest["metadata"]
        parsed = self._parsed.get(key, manifest)
        queue_key = queue_of(manifest)
        job_queue = self._cache.get(Kind.JOB_QUEUE, queue_key)
        observed = Observed(
            key=key,
            uid=metadata["uid"],
            generation=metadata["generation"],
            has_finalizer=labels.FINALIZER in (metadata.get("finalizers") or ()),
            deleted_for_ms=_deleted_for_ms(metadata),
            spec=parsed.spec,
            spec_problem=parsed.problem,
            duplicate_of=self._older(key, manifest, parsed.spec),
            is_queue_found=job_queue is not None,
            status=self._status_writer.latest(key, manifest),
        )
        if job_queue is None:
            return observed
        try:
            queue = jobqueue.parse_job_queue(job_queue)
        except errors.InvalidInputError as problem:
            return replace(observed, unreadable=f"JobQueue {queue_key.name}: {problem}")
        observed = replace(observed, queue=queue)
        if parsed.spec is None or observed.deleted_for_ms is not None:
            return observed
        return await self._with_record(observed, parsed.spec, queue_key)

    def forget(self, key: Key) -> None:
        """The CronJobSchedule is gone."""
        self._parsed.forget(key)

    def _older(self, key: Key, manifest: Json, spec: specs.CronJobScheduleSpec | None) -> str | None:
        """The oldest schedule with the same scheduler on the same JobQueue, if that is not this one."""
        if spec is None:
            return None
        claims = [(age_of(manifest), key.name)]
        for other in self._cache.schedules_of(queue_of(manifest)) - {key}:
            rival = self._cache.get(Kind.CRON_JOB_SCHEDULE, other)
            if rival is not None and scheduler_of(rival) == spec.scheduler_id:
                claims.append((age_of(rival), other.name))
        oldest = min(claims)[1]
        return None if oldest == key.name else oldest

    async def _with_record(self, observed: Observed, spec: specs.CronJobScheduleSpec, queue_key: Key) -> Observed:
        target, snapshot = self._pollers.target(queue_key), self._pollers.snapshot(queue_key)
        if target is None:
            return replace(observed, unreadable=f"JobQueue {queue_key.name} is not read; see its conditions")
        if snapshot is None:
            return replace(observed, unreadable=f"JobQueue {queue_key.name} has not been read yet")
        if snapshot.reason is not None:
            assert isinstance(snapshot.signal, Unknown)
            return replace(observed, unreadable=snapshot.signal.why)
        try:
            connection = await self._pollers.connection(queue_key)
            record, now_ms = await JobSchedulers(connection, target.keys).look(spec.scheduler_id)
        except errors.RedisError as problem:
            return replace(observed, unreadable=endpoints.explain(problem.reason, target.settings))
        return replace(observed, record=record, now_ms=now_ms)


def _deleted_for_ms(metadata: Json) -> int | None:
    since = metadata.get("deletionTimestamp")
    if since is None:
        return None
    return clock.now_ms() - round(datetime.datetime.fromisoformat(since).timestamp() * 1000)
