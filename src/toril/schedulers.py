"""Job schedulers from the side of the application: jobs on a calendar or at an interval."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Unpack

from toril import clock, enqueue_options, errors
from toril.engine import schedulers
from toril.engine.operations import Operation
from toril.enqueue_options import Duration, EnqueueOptions
from toril.handle import JobHandle
from toril.jobs.options import public
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate, SchedulerRecord

if TYPE_CHECKING:
    from toril.queue import Queue
    from toril.task import Draft

_OWN_NAMES = {"pattern": "cron", "startDate": "start", "endDate": "end"}
"""BullMQ's names of what has another name here."""


class ScheduleOptions(EnqueueOptions, total=False):
    """When jobs come, either `every` or `cron`; and how each of them is run (but for `delay`, `run_at`, `job_id`)."""

    every: Duration
    """Time between jobs; the first comes at once, or at `start`."""
    cron: str
    """Five fields, or six with seconds first, in BullMQ's dialect: `0 2 * * *` is each night at two."""
    tz: str
    """IANA time zone of `cron`. Default: UTC."""
    offset: Duration
    """With `every`: jobs come at multiples of it plus this."""
    start: datetime
    """No job before. With a time zone."""
    end: datetime
    """No job after; the scheduler stays stored. With a time zone."""
    limit: int
    """How many jobs come in all."""
    immediately: bool
    """With `cron`: the first job comes at once."""


_OWN_OPTIONS = ScheduleOptions.__annotations__.keys() - EnqueueOptions.__annotations__.keys()


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A job scheduler as it is stored, whoever made it."""

    id: str
    name: str
    """Name of its jobs."""
    next_run: datetime
    """When its current job is, or was, due; later by a worker's taking it, or by the operator's looking."""
    made: int
    """How many jobs it has made."""
    data: Any
    options: Mapping[str, Any]
    """Options of its jobs, in BullMQ's words and units."""
    repeat: Mapping[str, Any]
    """The schedule in BullMQ's words and units."""

    @classmethod
    def of(cls, record: SchedulerRecord) -> Scheduler:
        return cls(
            id=record.id,
            name=record.name,
            next_run=datetime.fromtimestamp(record.slot_ms / 1000, UTC),
            made=record.iteration_count or 0,
            data=record.data,
            options=record.opts,
            repeat=record.repeat,
        )


class Schedulers:
    """The job schedulers of a queue: `queue.schedulers`.

    ```python
    await queue.schedulers.upsert("cleanup", cron="0 2 * * *", tz="Europe/Berlin", draft=cleanup.draft(days=30))
    await queue.schedulers.upsert("health-check", every=300)
    ```

    They are BullMQ's Job Schedulers. The worker that takes a scheduler's job makes the next one; where there is no
    worker, the operator does, for schedules that are Kubernetes objects.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def upsert(
        self,
        scheduler_id: str,
        *,
        name: str | None = None,
        data: Any = None,
        draft: Draft[Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """Make a scheduler, or change the one of this id; the job that it has in store is replaced.

        Args:
            name: of the jobs; None = the scheduler's id.
            data: of each job, any JSON value; None = `{}`.
            draft: a task's call, `task.draft(…)`, instead of name, data and the jobs' options.

        Returns:
            A handle of the job that is in store now.

        Raises:
            InvalidOptionError, InvalidPayloadError: refused; nothing was changed.
            JobStateError: the next slots have jobs already.
            RedisUnavailableError, UnknownOutcomeError: the connection failed; to upsert again is safe.
        """
        return await self._queue.walk(_upsert(self._queue, scheduler_id, name, data, draft, options))

    async def remove(self, scheduler_id: str) -> bool:
        """Remove a scheduler with its delayed job; a job that waits in line or runs goes on. Returns whether it was
        there."""
        return await self._queue.walk(schedulers.remove(self._queue.keys, scheduler_id))

    async def get(self, scheduler_id: str) -> Scheduler | None:
        """One scheduler; None when there is none."""
        return await self._queue.walk(_get(self._queue, scheduler_id))

    async def list(self, start: int = 0, end: int = -1) -> builtins.list[Scheduler]:
        """The schedulers from rank `start` to `end` (−1 = the last), the one that is due next first."""
        return await self._queue.walk(_page(self._queue, start, end))

    async def count(self) -> int:
        """How many schedulers there are."""
        return await self._queue.walk(schedulers.count(self._queue.keys))


class SyncSchedulers:
    """The same for code without an event loop: `queue.sync.schedulers`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def upsert(
        self,
        scheduler_id: str,
        *,
        name: str | None = None,
        data: Any = None,
        draft: Draft[Any] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> JobHandle[Any]:
        """As `Schedulers.upsert`."""
        return self._queue.sync.walk(_upsert(self._queue, scheduler_id, name, data, draft, options))

    def remove(self, scheduler_id: str) -> bool:
        """As `Schedulers.remove`."""
        return self._queue.sync.walk(schedulers.remove(self._queue.keys, scheduler_id))

    def get(self, scheduler_id: str) -> Scheduler | None:
        """As `Schedulers.get`."""
        return self._queue.sync.walk(_get(self._queue, scheduler_id))

    def list(self, start: int = 0, end: int = -1) -> builtins.list[Scheduler]:
        """As `Schedulers.list`."""
        return self._queue.sync.walk(_page(self._queue, start, end))

    def count(self) -> int:
        """As `Schedulers.count`."""
        return self._queue.sync.walk(schedulers.count(self._queue.keys))


def _upsert(
    queue: Queue, scheduler_id: str, name: str | None, data: Any, draft: Draft[Any] | None, options: ScheduleOptions
) -> Operation[JobHandle[Any]]:
    schedule = _schedule({key: value for key, value in options.items() if key in _OWN_OPTIONS})
    of_jobs = {key: value for key, value in options.items() if key not in _OWN_OPTIONS}
    template = _template(queue, name, data, draft, of_jobs)
    template = (yield from queue.known_defaults.refresh()).apply_to_template(template)
    try:
        made = yield from schedulers.upsert(queue.keys, scheduler_id, schedule, template, layout=queue.paused_layout)
    except errors.InvalidOptionError as problem:
        raise _in_own_words(problem) from None
    if made is None:
        raise errors.InvalidOptionError("end", "the schedule has no time before its end")
    return JobHandle(queue, made.job_id)


def _get(queue: Queue, scheduler_id: str) -> Operation[Scheduler | None]:
    record, _ = yield from schedulers.look(queue.keys, scheduler_id)
    return None if record is None else Scheduler.of(record)


def _page(queue: Queue, start: int, end: int) -> Operation[list[Scheduler]]:
    records = yield from schedulers.page(queue.keys, start, end)
    return [Scheduler.of(record) for record in records]


def _template(
    queue: Queue, name: str | None, data: Any, draft: Draft[Any] | None, options: Mapping[str, Any]
) -> JobTemplate:
    if draft is None:
        opts = {**queue.default_job_options, **enqueue_options.to_bullmq(options, clock.now_ms())}
        return JobTemplate.create(name or "", data, opts, "options")
    if draft.queue is not queue:
        raise errors.InvalidOptionError("draft", f"is of queue {draft.queue.name}, not of {queue.name}")
    if name is not None or data is not None or options:
        raise errors.InvalidOptionError("draft", "says name, data and the jobs' options: leave those out")
    opts = public(draft.job.options.wire)
    return JobTemplate.of_json(draft.job.name, draft.job.data_json, opts, "draft")


def _schedule(given: Mapping[str, Any]) -> Schedule:
    """The checked schedule of this module's words and units."""
    own = dict(given)
    bullmq: dict[str, Any] = {name: own.pop(ours) for name, ours in _OWN_NAMES.items() if ours in own}
    for name in ("every", "offset"):
        if own.get(name) is not None:
            own[name] = enqueue_options.milliseconds(own[name], name)
    if (given.get("every") is None) == (given.get("cron") is None):
        raise errors.InvalidOptionError("every", "give exactly one of `every` and `cron`")
    try:
        return Schedule.from_bullmq({**own, **bullmq}, "schedule")
    except errors.InvalidOptionError as problem:
        raise _in_own_words(problem) from None


def _in_own_words(problem: errors.InvalidOptionError) -> errors.InvalidOptionError:
    name = problem.field.rpartition(".")[2]
    return errors.InvalidOptionError(_OWN_NAMES.get(name, name), problem.problem)
