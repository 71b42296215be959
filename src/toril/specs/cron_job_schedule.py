"""A CronJobSchedule manifest as a typed spec. Fields and defaults are those of `crds/cronjobschedules.toril.dev.yaml`.

Read from an API server or from a file, like JobQueues. The cron expression and the time zone are checked apart, by
`build_schedule`: in a cluster the condition `ScheduleValid` reports their mistakes.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from toril import errors
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate
from toril.specs import fields
from toril.specs.fields import Fields

API_VERSION = "toril.dev/v1alpha1"
KIND = "CronJobSchedule"
LOWEST_EVERY_MS = 1000
HIGHEST_EVERY_MS = 366 * 86_400_000
DEFAULT_TIME_ZONE = "Etc/UTC"

_PATTERN = re.compile(r"@[a-z]+|[-0-9A-Za-z*/,?#]+( +[-0-9A-Za-z*/,?#]+){4,5}")
_NOT_OF_SCHEDULES = ("delay", "jobId", "timestamp")
"""Options that follow from a job's slot."""


class RunOnCreate(StrEnum):
    """Whether the job also runs when the schedule is created or changed."""

    NEVER = "Never"
    """Only at the slots."""
    ONCE_PER_GENERATION = "OncePerGeneration"
    """Once for each version of the spec, however often the operator starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronJobScheduleSpec:
    """One CronJobSchedule, with every default filled in."""

    namespace: str
    name: str
    queue: str
    """Name of the JobQueue."""
    scheduler_id: str
    """In BullMQ; `<namespace>.<name>` when none is given."""
    pattern: str | None = None
    """The cron expression; None with `every_ms`."""
    every_ms: int | None = None
    offset_ms: int | None = None
    """None = not given; see `schedule_plan.first_slot_ms`."""
    time_zone: str | None = None
    """Zone of the cron expression; None with `every_ms`, which needs none."""
    start_ms: int | None = None
    """Unix milliseconds, like `end_ms`."""
    end_ms: int | None = None
    limit: int | None = None
    is_suspended: bool = False
    run_on_create: RunOnCreate = RunOnCreate.NEVER
    job_name: str
    job_data: Mapping[str, Any] = field(default_factory=dict)
    job_options: Mapping[str, Any] = field(default_factory=dict)
    """In BullMQ's words and units, checked; without the queue's defaults."""

    def options_on(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The jobs' options: the schedule's own over the JobQueue's `defaultJobOptions`."""
        inherited = {name: value for name, value in defaults.items() if name not in _NOT_OF_SCHEDULES}
        return {**inherited, **self.job_options}

    def run_id(self, uid: str, generation: int) -> str:
        """Id of the job by which `run_on_create` runs: one a generation, so that a second one is never added."""
        return f"toril-run-{uid}-{generation}"


def parse_cron_job_schedule(manifest: Mapping[str, Any]) -> CronJobScheduleSpec:
    """Read one manifest.

    Raises:
        InvalidSpecError: a field is missing or wrong; `field` is its path.
    """
    root = Fields.of_object(manifest, API_VERSION, KIND)
    metadata, spec = root.object("metadata"), root.object("spec")
    name, namespace = metadata.text("name"), metadata.text("namespace", "default")
    pattern, every_ms, offset_ms = _rhythm(spec)
    start_ms, end_ms = _time(spec, "startDate"), _time(spec, "endDate")
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        raise spec.refuse("endDate", "must be after startDate")
    run_on_create = spec.choice("runOnCreate", RunOnCreate.NEVER)
    if start_ms is not None and run_on_create is not RunOnCreate.NEVER:
        raise spec.refuse("runOnCreate", "must be Never with a startDate, before which nothing runs")
    time_zone = spec.text("timeZone", DEFAULT_TIME_ZONE)
    template = spec.object("jobTemplate")
    return CronJobScheduleSpec(
        namespace=namespace,
        name=name,
        queue=spec.object("queueRef").text("name"),
        scheduler_id=_scheduler_id(spec, f"{namespace}.{name}"),
        pattern=pattern,
        every_ms=every_ms,
        offset_ms=offset_ms,
        time_zone=None if pattern is None else time_zone,
        start_ms=start_ms,
        end_ms=end_ms,
        limit=spec.whole("limit", 0, 1, 2**31 - 1) or None,
        is_suspended=spec.flag("suspend"),
        run_on_create=run_on_create,
        job_name=template.text("name", name),
        job_data=template.object("data").values,
        job_options=_job_options(template),
    )


def build_schedule(spec: CronJobScheduleSpec) -> Schedule:
    """The slots that the spec asks for.

    Raises:
        InvalidSpecError: `spec.schedule` or `spec.timeZone` is invalid.
    """
    repeat = {
        "pattern": spec.pattern,
        "every": spec.every_ms,
        "offset": spec.offset_ms,
        "tz": spec.time_zone,
        "startDate": spec.start_ms,
        "endDate": spec.end_ms,
        "limit": spec.limit,
    }
    try:
        return Schedule.from_bullmq(repeat, "spec")
    except errors.InvalidOptionError as problem:
        name = problem.field.rpartition(".")[2]
        field = {"pattern": "schedule", "tz": "timeZone"}.get(name, name)
        raise errors.InvalidSpecError(f"spec.{field}", problem.problem) from None


def build_template(spec: CronJobScheduleSpec, defaults: Mapping[str, Any]) -> JobTemplate:
    """Name, data and options of the schedule's jobs.

    Args:
        defaults: the JobQueue's `defaultJobOptions`.

    Raises:
        InvalidSpecError: the data cannot be stored, or is larger than the option `sizeLimit`.
    """
    try:
        return JobTemplate.create(spec.job_name, spec.job_data, spec.options_on(defaults))
    except errors.InvalidPayloadError as problem:
        raise errors.InvalidSpecError(f"spec.jobTemplate.{problem.field}", problem.problem) from None


def build_run(spec: CronJobScheduleSpec, defaults: Mapping[str, Any], job_id: str) -> NewJob:
    """The job of `runOnCreate`. Raises as `build_template` does."""
    options = JobOptions.from_bullmq({**spec.options_on(defaults), "jobId": job_id})
    try:
        return NewJob.create(spec.job_name, spec.job_data, options)
    except errors.InvalidPayloadError as problem:
        raise errors.InvalidSpecError(f"spec.jobTemplate.{problem.field}", problem.problem) from None


def _rhythm(spec: Fields) -> tuple[str | None, int | None, int | None]:
    """The cron expression, or the interval and its offset."""
    if spec.has("schedule") == spec.has("every"):
        raise errors.InvalidSpecError(spec.path, "exactly one of schedule and every must be given")
    pattern = spec.text_or_none("schedule")
    if pattern is not None:
        if _PATTERN.fullmatch(pattern) is None:
            raise spec.refuse(
                "schedule", "must have five fields, or six with seconds first, or be a word such as @daily"
            )
        if spec.has("offset"):
            raise spec.refuse("offset", "goes with every")
        return pattern, None, None
    every_ms = spec.whole("every", 0, LOWEST_EVERY_MS, HIGHEST_EVERY_MS)
    if not spec.has("offset"):
        return None, every_ms, None
    offset_ms = spec.whole("offset", 0, 0, HIGHEST_EVERY_MS)
    if offset_ms >= every_ms:
        raise spec.refuse("offset", "must be below every")
    return None, every_ms, offset_ms


def _scheduler_id(spec: Fields, default: str) -> str:
    scheduler_id = spec.text("schedulerId", default)
    # The default may be longer: Kubernetes has checked the names that it consists of.
    if ":" in scheduler_id or not scheduler_id.isprintable() or (spec.has("schedulerId") and len(scheduler_id) > 200):
        raise spec.refuse("schedulerId", "must be at most 200 printable characters without a colon")
    return scheduler_id


def _time(spec: Fields, name: str) -> int | None:
    """A point in time as Unix milliseconds."""
    text = spec.text_or_none(name)
    if text is None:
        return None
    try:
        when = datetime.datetime.fromisoformat(text.upper())
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise spec.refuse(name, fields.NO_TIME)
    return round(when.timestamp() * 1000)


def _job_options(template: Fields) -> Mapping[str, Any]:
    """`spec.jobTemplate.opts`, checked as a job's own options are."""
    options = template.mapping("opts")
    for name in _NOT_OF_SCHEDULES:
        if name in options:
            raise template.object("opts").refuse(name, "is given by the slot")
    try:
        JobOptions.from_bullmq(options, template.at("opts"))
    except errors.InvalidOptionError as problem:
        raise errors.InvalidSpecError(problem.field, problem.problem) from None
    return options
