"""The schedules of local mode: stores the manifests' CronJobSchedules as job schedulers, and carries them on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from toril import clock, errors
from toril.engine.keys import QueueKeys
from toril.engine.maintenance import advance_schedulers
from toril.engine.producer import Producer
from toril.engine.redis.connection import AsyncConnection
from toril.engine.schedulers import JobSchedulers
from toril.engine.scripts import Layout
from toril.specs import cron_job_schedule as specs
from toril.specs import schedule_plan
from toril.specs.cron_job_schedule import CronJobScheduleSpec, RunOnCreate
from toril.specs.jobqueue import JobQueueSpec

LOOK_MS = 1000
"""Longest pause between two readings of a queue's schedulers, which other clients may change."""


@dataclass(slots=True, kw_only=True)
class ScheduleRun:
    """One schedule of the session."""

    spec: CronJobScheduleSpec
    queue: JobQueueSpec
    run_id: str | None = None
    """Id of the job that `runOnCreate` added."""
    next_slot_ms: int | None = None
    """The slot that was stored at the start, Unix milliseconds; None = there is none."""


class Schedules:
    """All schedules of one `toril dev`."""

    def __init__(
        self, specs: Sequence[CronJobScheduleSpec], queues: Sequence[JobQueueSpec], connection: AsyncConnection
    ) -> None:
        by_name = {(queue.namespace, queue.name): queue for queue in queues}
        self.runs = [ScheduleRun(spec=spec, queue=by_name[spec.namespace, spec.queue]) for spec in specs]
        self._connection = connection
        self._due = [
            _Due(run.queue) for run in {(run.queue.namespace, run.queue.name): run for run in self.runs}.values()
        ]

    async def start(self) -> None:
        """Make the job schedulers, or remove those that are suspended. Raises RedisError."""
        for run in self.runs:
            await self._start(run)

    async def turn(self) -> None:
        """Make the jobs of the slots that have passed. After a refusal by Redis, the next call tries again."""
        for due in self._due:
            now_ms = clock.monotonic_ms()
            if due.at_ms > now_ms:
                continue
            due.at_ms = now_ms + LOOK_MS
            layout: Layout = due.queue.paused_layout.value
            with contextlib.suppress(errors.RedisError):
                done = await advance_schedulers.run_once(
                    self._connection, _keys(due.queue), also_waiting=True, layout=layout
                )
                if done.next_slot_ms is not None:
                    due.at_ms = now_ms + min(max(done.next_slot_ms - done.now_ms, 0), LOOK_MS)

    async def _start(self, run: ScheduleRun) -> None:
        spec, defaults = run.spec, run.queue.default_job_options
        layout: Layout = run.queue.paused_layout.value
        schedulers = JobSchedulers(self._connection, _keys(run.queue), layout=layout)
        if spec.is_suspended:
            await schedulers.remove(spec.scheduler_id)
            return
        record, now_ms = await schedulers.look(spec.scheduler_id)
        schedule = specs.build_schedule(spec)
        runs_now = spec.run_on_create is RunOnCreate.ONCE_PER_GENERATION
        needs = schedule_plan.plan_new(spec, schedule, record, now_ms=now_ms, made=0, runs_now=runs_now)
        made = None
        if not needs.is_over:
            template = specs.build_template(spec, defaults)
            made = await schedulers.upsert(spec.scheduler_id, schedule, template, first_ms=needs.first_ms)
            run.next_slot_ms = None if made is None else made.slot_ms
        if needs.adds_run:
            # A new id at each start: a manifest in a file has no generation.
            run.run_id = spec.run_id("local", now_ms)
            producer = Producer(self._connection, _keys(run.queue), layout=layout)
            await producer.add([specs.build_run(spec, defaults, run.run_id)])
        elif runs_now and made is not None:
            run.run_id = made.job_id


@dataclass(slots=True)
class _Due:
    """A queue with schedules, and when they are read next (monotonic clock)."""

    queue: JobQueueSpec
    at_ms: int = 0


def _keys(queue: JobQueueSpec) -> QueueKeys:
    return QueueKeys(queue.queue_name, queue.prefix)
