"""Defaults of a queue: options for jobs that do not give their own, and the largest size of data. Pure."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toril import errors
from toril.jobs.job import NewJob, check_size
from toril.jobs.options import JobOptions, public

if TYPE_CHECKING:
    from toril.jobs.scheduler import JobTemplate

_OF_ONE_JOB = ("jobId", "timestamp", "parent", "deduplication", "debounce", "telemetry", "tm", "omc")
"""Options that belong to one job and can be no default."""


@dataclass(frozen=True)
class QueueDefaults:
    """Defaults of one queue. Options of a call, a task or a `Queue` object go before them."""

    options: JobOptions = field(default_factory=JobOptions)
    size_limit_bytes: int | None = None
    """Largest data of a job, bytes of its JSON in UTF-8; None = no limit. The option `sizeLimit` does not lift it."""
    priorities: Mapping[str, int] = field(default_factory=dict)
    """Names of priorities and their numbers."""

    @classmethod
    def create(
        cls,
        options: Mapping[str, Any] | None = None,
        *,
        size_limit_bytes: int | None = None,
        priorities: Mapping[str, int] | None = None,
        path: str = "options",
    ) -> QueueDefaults:
        """Check what a manifest gives. Args: options: in BullMQ's words and units. Raises InvalidOptionError."""
        for name in _OF_ONE_JOB:
            if (options or {}).get(name) is not None:
                raise errors.InvalidOptionError(f"{path}.{name}", "belongs to one job: it can be no default")
        return cls(JobOptions.from_bullmq(options, path), size_limit_bytes, priorities or {})

    @classmethod
    def from_texts(cls, options: str, size_limit: str, priorities: str) -> QueueDefaults:
        """Read the stored fields; empty text = not set. Raises InvalidOptionError: a field is invalid."""
        limit = None
        if size_limit:
            if not size_limit.isascii() or not size_limit.isdigit() or len(size_limit) > 16:
                raise errors.InvalidOptionError("sizeLimit", "is no number of bytes")
            limit = int(size_limit)
        numbers = _object(priorities, "priorities")
        return cls.create(_object(options, "options"), size_limit_bytes=limit, priorities=numbers)

    def to_texts(self) -> tuple[str, str, str]:
        """The fields `options`, `sizeLimit` and `priorities` as they are stored; empty text = not set."""
        options = public({name: value for name, value in self.options.wire.items() if name != "attempts" or value})
        limit = "" if self.size_limit_bytes is None else str(self.size_limit_bytes)
        return _text(options), limit, _text(self.priorities)

    @functools.cached_property
    def is_empty(self) -> bool:
        """Whether they change no job."""
        return self.to_texts() == ("", "", "")

    def apply(self, job: NewJob) -> NewJob:
        """The job with these defaults. Raises InvalidPayloadError: its data is larger than the limit."""
        options = job.options.over(self.options)
        if self.size_limit_bytes is not None:
            check_size(job.data_json, self.size_limit_bytes)
        if options is job.options:
            return job
        if options.size_limit_bytes is not None:
            check_size(job.data_json, options.size_limit_bytes)
        return NewJob(job.name, job.data_json, options, job.links_json)

    def apply_to_all(self, jobs: Iterable[NewJob]) -> Iterable[NewJob]:
        """The jobs with these defaults. All jobs of a list are checked now, those of an iterator one by one.

        Raises InvalidPayloadError: data of a job is larger than the limit; says which job of several.
        """
        if self.is_empty:
            return jobs
        if not isinstance(jobs, Sequence):
            return map(self.apply, jobs)
        ready: list[NewJob] = []
        for index, job in enumerate(jobs):
            try:
                ready.append(self.apply(job))
            except errors.InvalidPayloadError as problem:
                if len(jobs) == 1:
                    raise
                raise errors.InvalidPayloadError(f"[{index}].{problem.field}", problem.problem) from None
        return ready

    def apply_to_template(self, template: JobTemplate) -> JobTemplate:
        """A scheduler's template with these defaults, but for their delay. Raises as `apply`."""
        changed = template.over(self.options)
        for limit in (self.size_limit_bytes, (changed.opts or {}).get("sizeLimit")):
            if limit is not None:
                check_size(template.data_json, limit)
        return changed


def _text(value: Mapping[str, Any]) -> str:
    """Compact JSON, the same for the same content; empty for an empty mapping."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if value else ""


def _object(text: str, field_name: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise errors.InvalidOptionError(field_name, "is not JSON") from None
    if not isinstance(value, dict):
        raise errors.InvalidOptionError(field_name, "must be a JSON object")
    return value
