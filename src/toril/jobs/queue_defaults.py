"""Defaults of a queue: options of jobs that say nothing else, and how large their data may be. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toril import errors
from toril.jobs.options import LONG_NAMES, JobOptions

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
        """Read the stored fields; an empty one says nothing. Raises InvalidOptionError when one makes no sense."""
        limit = None
        if size_limit:
            if not size_limit.isascii() or not size_limit.isdigit() or len(size_limit) > 16:
                raise errors.InvalidOptionError("sizeLimit", "is no number of bytes")
            limit = int(size_limit)
        numbers = _object(priorities, "priorities")
        return cls.create(_object(options, "options"), size_limit_bytes=limit, priorities=numbers)

    def to_texts(self) -> tuple[str, str, str]:
        """The fields `options`, `sizeLimit` and `priorities` as they are stored; empty = says nothing."""
        stored = self.options.wire.items()
        options = {LONG_NAMES.get(name, name): value for name, value in stored if name != "attempts" or value}
        limit = "" if self.size_limit_bytes is None else str(self.size_limit_bytes)
        return _text(options), limit, _text(self.priorities)

    @property
    def is_empty(self) -> bool:
        """Whether they change no job."""
        return self.to_texts() == ("", "", "")


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
