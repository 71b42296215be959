"""Operations on a queue's job schedulers on checked input, and the translation of a schedule's options to BullMQ's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from toril import clock, errors
from toril.client import options as _options
from toril.client.options import Duration, EnqueueOptions
from toril.engine import schedulers
from toril.engine.operations import Operation
from toril.jobs.options import public
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate, SchedulerRecord

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.draft import Draft

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


def upsert(
    client: QueueClient,
    scheduler_id: str,
    name: str | None,
    data: Any,
    draft: Draft[Any] | None,
    options: ScheduleOptions,
) -> Operation[str]:
    """Make or change a scheduler; return the id of its delayed job. Raises as `Schedulers.upsert`."""
    schedule = _schedule({key: value for key, value in options.items() if key in _OWN_OPTIONS})
    of_jobs = {key: value for key, value in options.items() if key not in _OWN_OPTIONS}
    template = _template(client, name, data, draft, of_jobs)
    template = (yield from client.known_defaults.refresh()).apply_to_template(template)
    try:
        made = yield from schedulers.upsert(client.keys, scheduler_id, schedule, template, layout=client.paused_layout)
    except errors.InvalidOptionError as problem:
        raise _in_own_words(problem) from None
    if made is None:
        raise errors.InvalidOptionError("end", "the schedule has no time before its end")
    return made.job_id


def remove(client: QueueClient, scheduler_id: str) -> Operation[bool]:
    """Remove a scheduler; return whether it existed."""
    return schedulers.remove(client.keys, scheduler_id)


def get(client: QueueClient, scheduler_id: str) -> Operation[Scheduler | None]:
    """Read one scheduler; None = it does not exist."""
    record, _ = yield from schedulers.look(client.keys, scheduler_id)
    return None if record is None else Scheduler.of(record)


def page(client: QueueClient, start: int, end: int) -> Operation[list[Scheduler]]:
    """Read the schedulers of ranks `start` to `end` (included; −1 = the last), ordered by their next run."""
    records = yield from schedulers.page(client.keys, start, end)
    return [Scheduler.of(record) for record in records]


def count(client: QueueClient) -> Operation[int]:
    """Count the schedulers."""
    return schedulers.count(client.keys)


def _template(
    client: QueueClient, name: str | None, data: Any, draft: Draft[Any] | None, options: Mapping[str, Any]
) -> JobTemplate:
    if draft is None:
        opts = {**client.default_job_options, **_options.to_bullmq(options, clock.now_ms())}
        return JobTemplate.create(name or "", data, opts, "options")
    if draft.client is not client:
        raise errors.InvalidOptionError("draft", f"is of queue {draft.client.name}, not of {client.name}")
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
            own[name] = _options.milliseconds(own[name], name)
    if (given.get("every") is None) == (given.get("cron") is None):
        raise errors.InvalidOptionError("every", "give exactly one of `every` and `cron`")
    try:
        return Schedule.from_bullmq({**own, **bullmq}, "schedule")
    except errors.InvalidOptionError as problem:
        raise _in_own_words(problem) from None


def _in_own_words(problem: errors.InvalidOptionError) -> errors.InvalidOptionError:
    name = problem.field.rpartition(".")[2]
    return errors.InvalidOptionError(_OWN_NAMES.get(name, name), problem.problem)
