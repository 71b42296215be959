"""Job schedulers as they are stored, and the jobs that they make. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from toril import errors
from toril.jobs import codec
from toril.jobs.cron_dialect import Dialect
from toril.jobs.job import check_size
from toril.jobs.options import MAX_PRIORITY, JobOptions, merge_wire, public
from toril.jobs.schedule import Schedule

MAX_ID_LENGTH = 256
MAX_DEPTH = 100
"""Values nested deeper in a job's options do not go on to the scheduler's next job."""
_NOT_IN_TEMPLATES = ("jobId", "delay", "timestamp", "repeat", "parent", "deduplication")
_SET_BY_SCHEDULER = ("jobId", "delay", "timestamp", "repeat", "repeatJobKey", "prevMillis")
_OF_ONE_RUN = ("tm",)
"""Options that do not go on to the next job: each run has a trace of its own. With BullMQ all runs stay in one
trace."""


def checked_scheduler_id(value: object, path: str = "scheduler") -> str:
    """Return a scheduler's id, which may hold colons. Raises InvalidOptionError: empty, too long, not printable."""
    if not isinstance(value, str) or not value or len(value) > MAX_ID_LENGTH or not value.isprintable():
        raise errors.InvalidOptionError(path, f"an id is text of 1 to {MAX_ID_LENGTH} printable characters")
    return value


def slot_job_id(scheduler_id: str, slot_ms: int) -> str:
    """Id of the job of one slot. Scripts and other libraries build the same."""
    return f"{slot_job_id_start(scheduler_id)}{slot_ms}"


def slot_job_id_start(scheduler_id: str) -> str:
    """The beginning of the ids of a scheduler's jobs; the slot follows."""
    return f"repeat:{scheduler_id}:"


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """Name, data and options of a scheduler's jobs."""

    name: str = ""
    """The jobs' name; empty = the scheduler's id."""
    data_json: str = "{}"
    opts: Mapping[str, Any] | None = None
    """BullMQ's options as they are stored, short codes included."""
    priority: int = 0
    lifo: bool = False

    @classmethod
    def create(
        cls, name: str = "", data: Any = None, opts: Mapping[str, Any] | None = None, path: str = "opts"
    ) -> JobTemplate:
        """Check a caller's values: any JSON as data (None = `{}`), BullMQ's job options.

        Raises:
            InvalidOptionError: an option is unknown, wrong, or set by the scheduler itself (`delay`, `jobId`).
            InvalidPayloadError: data is not JSON.
        """
        return cls.of_json(name, "{}" if data is None else codec.encode(data), opts, path)

    @classmethod
    def of_json(
        cls, name: str, data_json: str, opts: Mapping[str, Any] | None = None, path: str = "opts"
    ) -> JobTemplate:
        """As `create`, for data that is JSON already."""
        for option, value in (opts or {}).items():
            if option in _NOT_IN_TEMPLATES and value is not None:
                raise errors.InvalidOptionError(f"{path}.{option}", "is not for jobs of schedulers: leave it out")
        if not isinstance(name, str):
            raise errors.InvalidOptionError("name", "must be text")
        options = JobOptions.from_bullmq(opts, path)
        wire = dict(options.wire)
        if not wire["attempts"]:
            # BullMQ writes no default into a template.
            del wire["attempts"]
        if options.size_limit_bytes is not None:
            check_size(data_json, options.size_limit_bytes)
        return cls(name, data_json, wire, options.priority, options.lifo)

    def over(self, defaults: JobOptions) -> JobTemplate:
        """The same template with a queue's defaults, without options that a template may not have."""
        usable = {name: value for name, value in defaults.wire.items() if name not in _NOT_IN_TEMPLATES}
        if not usable["attempts"]:
            del usable["attempts"]
        wire = merge_wire(self.opts or {}, usable)
        return replace(self, opts=wire, priority=wire.get("priority", 0), lifo=wire.get("lifo", False))


@dataclass(frozen=True, slots=True)
class CurrentJob:
    """The job of a scheduler's current slot, if it exists."""

    has_started: bool
    """Whether a worker has ever taken it."""
    opts: Mapping[str, Any]
    name: str
    data_json: str


@dataclass(frozen=True, slots=True)
class SchedulerRecord:
    """One job scheduler as stored."""

    id: str
    slot_ms: int
    """The current slot, for which the latest job was made. Unix milliseconds."""
    fields: Mapping[str, str]
    """The scheduler's hash."""
    job: CurrentJob | None = None
    writer: Dialect = Dialect.BULLMQ_6
    """The version of BullMQ whose reading of the pattern counts."""

    @property
    def job_id(self) -> str:
        """Id of the current slot's job."""
        return slot_job_id(self.id, self.slot_ms)

    @property
    def name(self) -> str:
        return self.fields.get("name", "")

    @property
    def iteration_count(self) -> int | None:
        """How many jobs were made; None = a repeatable job of BullMQ 5's older kind."""
        return _number(self.fields.get("ic"))

    @property
    def data_json(self) -> str | None:
        """The template's data; None = `{}`, or not stored (older kind)."""
        return self.fields.get("data")

    @property
    def data(self) -> Any:
        """The template's data. Raises InvalidPayloadError when it is not JSON."""
        return codec.decode(self.data_json or "")

    @property
    def opts(self) -> dict[str, Any]:
        """The template's options under their public names; empty when they are invalid."""
        return public(options_of(self.fields.get("opts", "")))

    @property
    def repeat(self) -> dict[str, Any]:
        """BullMQ's repeat options that are stored."""
        numbers = {
            name: number
            for name in ("every", "limit", "startDate", "endDate", "offset")
            if (number := _number(self.fields.get(name))) is not None
        }
        return {**{name: self.fields[name] for name in ("pattern", "tz") if self.fields.get(name)}, **numbers}

    @property
    def schedule(self) -> Schedule:
        """The stored schedule. Raises InvalidOptionError: it cannot be carried on."""
        return _schedule(self.repeat, self)


@dataclass(frozen=True, slots=True)
class NextJob:
    """The next job of a scheduler. The script adds it only while `after_ms` is still the current slot."""

    scheduler_id: str
    after_ms: int
    """The slot that must still be the current one."""
    slot_ms: int
    name: str
    data_json: str
    """Used when the scheduler has no data stored, as repeatable jobs of BullMQ 5 have none."""
    opts: Mapping[str, Any]
    """Without what depends on the moment of storing: `jobId`, `delay`, `timestamp`."""

    @property
    def priority(self) -> int:
        priority = self.opts.get("priority")
        return int(min(priority, MAX_PRIORITY)) if isinstance(priority, int | float) and priority > 0 else 0

    @property
    def lifo(self) -> bool:
        return self.opts.get("lifo") is True

    @property
    def deduplication_id(self) -> str:
        """BullMQ stores this id on a scheduler's job, without further effect; empty = none."""
        option = self.opts.get("de")
        found = option.get("id") if isinstance(option, dict) else None
        return found if isinstance(found, str) else ""


def next_job(record: SchedulerRecord, now_ms: int, *, catch_up_ms: int = 0) -> NextJob | None:
    """The job after the current one; None: the series has ended, or its data is gone with the current job.

    Options come from the current job, or from the template when that job is gone; name and data from the scheduler.

    Args:
        catch_up_ms: each slot that passed within this time gets a job of its own. 0 is BullMQ's rule: one job for all
            slots that have passed.

    Raises:
        InvalidOptionError: the stored schedule is invalid; the series cannot be carried on.
    """
    job, made = record.job, record.iteration_count
    if job is None and made is None:
        # An older repeatable whose job is gone: its data went with it.
        return None
    opts = dict(job.opts) if job else options_of(record.fields.get("opts", ""))
    stored = opts.get("repeat")
    repeat: dict[str, Any] = dict(stored) if isinstance(stored, dict) else record.repeat
    if not isinstance(stored, dict):
        # The record holds an offset whether it was given or follows from the first slot.
        repeat.pop("offset", None)
    count = _number(repeat.get("count")) or (made if job is None else 1) or 1
    if (every := record.repeat.get("every")) and "pattern" not in repeat:
        repeat["every"] = every
    schedule = _schedule(repeat, record)
    if schedule.is_over(now_ms, count):
        return None
    offset_ms = _number(record.fields.get("offset")) or schedule.offset_ms
    reference_ms = max(record.slot_ms, now_ms - catch_up_ms) if catch_up_ms else now_ms
    slot_ms = schedule.next_slot_ms(record.slot_ms, reference_ms, offset_ms=offset_ms)
    if slot_ms is None:
        return None
    for name in (*_SET_BY_SCHEDULER, *_OF_ONE_RUN):
        opts.pop(name, None)
    opts.setdefault("attempts", 0)
    if isinstance(opts.get("backoff"), int | float):
        opts["backoff"] = {"type": "fixed", "delay": opts["backoff"]}
    if schedule.pattern:
        opts["prevMillis"] = slot_ms
    return NextJob(
        scheduler_id=record.id,
        after_ms=record.slot_ms,
        slot_ms=slot_ms,
        name=record.name or (job.name if job else record.id),
        data_json=job.data_json if job else "{}",
        opts={**opts, "repeat": _next_repeat(repeat, schedule, count + 1), "repeatJobKey": record.id},
    )


def first_opts(schedule: Schedule, template: JobTemplate, scheduler_id: str, *, made: int = 0) -> dict[str, Any]:
    """Options of a scheduler's first job, without what depends on slot and moment.

    Args:
        made: jobs that count towards the limit already.
    """
    repeat = {**schedule.to_bullmq(), "count": made + 1}
    return {**(template.opts or {}), "repeat": repeat, "repeatJobKey": scheduler_id}


def opts_json(opts: Mapping[str, Any]) -> str:
    return json.dumps(opts, ensure_ascii=False, separators=(",", ":"))


def options_of(text: str | bytes) -> dict[str, Any]:
    """Stored options; empty when they are invalid. Infinite numbers (`1e999`) are left out: they cannot be written as
    JSON that BullMQ's workers read."""
    try:
        opts = codec.decode(text, "opts")
    except errors.InvalidPayloadError:
        return {}
    return _writable(opts, 0) if isinstance(opts, dict) else {}


def _writable(value: Any, depth: int) -> Any:
    """A decoded value without the parts that cannot be written as JSON."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {name: _writable(inner, depth + 1) for name, inner in value.items() if not _is_endless(inner)}
    if isinstance(value, list):
        return [_writable(inner, depth + 1) for inner in value if not _is_endless(inner)]
    return value


def _is_endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _next_repeat(repeat: Mapping[str, Any], schedule: Schedule, count: int) -> dict[str, Any]:
    left_out = ("immediately", "offset", "startDate", "endDate")
    kept = {name: value for name, value in repeat.items() if name not in left_out and value is not None}
    checked = schedule.to_bullmq()
    return {**kept, **{name: checked[name] for name in left_out[1:] if name in checked}, "count": count}


def _schedule(repeat: Mapping[str, Any], record: SchedulerRecord) -> Schedule:
    """A stored schedule. Unknown options are ignored, and checks that hold for callers are not made."""
    known = dict(repeat)
    if known.get("pattern"):
        known.pop("every", None)
        known.pop("offset", None)
    elif _number(known.get("offset")) and (_number(known.get("every")) or 0) <= (_number(known["offset"]) or 0):
        known.pop("offset")
    known.pop("immediately", None)
    return Schedule.from_stored(known, record.writer, record.id)


def _number(value: Any) -> int | None:
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def fields_of(flat: Sequence[bytes]) -> dict[str, str]:
    """A flat `HGETALL` reply as text."""
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
