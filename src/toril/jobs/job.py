"""A job as it is added, and a job as it is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from toril import errors
from toril.jobs import codec
from toril.jobs.options import JobOptions, public
from toril.jobs.parents import ParentLink

MAX_QUEUE_NAME = 200
"""Longest name of a queue, characters."""
MAX_NAME = 1000
"""Longest name of a job, characters: it stands in every event of the job."""


class JobState(StrEnum):
    """Where a job is, in BullMQ's words. A queue is *paused*, never a job."""

    WAITING = "waiting"
    """In the list `wait`, or in `paused` while a queue with BullMQ 5's layout is paused."""
    ACTIVE = "active"
    """A worker has taken it."""
    DELAYED = "delayed"
    """It becomes waiting at its due time."""
    PRIORITIZED = "prioritized"
    """Waiting, with a priority; runs after the jobs without one."""
    WAITING_CHILDREN = "waiting-children"
    """It becomes waiting when its children have ended."""
    COMPLETED = "completed"
    """It has ended, and its function returned."""
    FAILED = "failed"
    """It has ended, with no attempt left."""
    UNKNOWN = "unknown"
    """There is no such job in any list of the queue: it was removed, or never added."""


@dataclass(slots=True)
class NewJob:
    """A job ready to be added: everything checked, data already JSON."""

    name: str
    data_json: str
    options: JobOptions
    links_json: str = ""
    """JSON for `add_jobs`: parent, children, deduplication and scheduler; empty = none of them."""

    @classmethod
    def create(cls, name: object, data: Any, options: JobOptions) -> NewJob:
        """Check name and data.

        Raises:
            InvalidPayloadError: data is not JSON, or larger than 256 MiB or the option `sizeLimit` (UTF-8 bytes).
            InvalidOptionError: the name is empty, too long or not text.
        """
        check_name(name)
        data_json = codec.encode(data)
        if options.size_limit_bytes is not None:
            check_size(data_json, options.size_limit_bytes)
        return cls(str(name), data_json, options, links_to_json(options))

    def under(self, parent: ParentLink) -> NewJob:
        """The same job as a child of `parent`. Raises InvalidOptionError: it has a deduplication."""
        options = self.options.under(parent)
        return replace(self, options=options, links_json=links_to_json(options))

    def in_trace(self, metadata: str | None) -> NewJob:
        """The same job with a trace context, unless it has one or `omitContext` is true."""
        return self if metadata is None else replace(self, options=self.options.in_trace(metadata))

    @property
    def opts_json(self) -> str:
        return self.options.wire_json


def check_size(data_json: str, limit: float) -> None:
    """Refuse data that is larger than `limit`, bytes of JSON in UTF-8. Raises InvalidPayloadError with both numbers."""
    if len(data_json) * 4 > limit and (size := len(data_json.encode())) > limit:
        raise errors.InvalidPayloadError("data", f"is {size} bytes as JSON; sizeLimit is {limit:.17g}")


def check_queue_name(name: object, field: str = "queue") -> str:
    """Return a queue's name, or refuse what BullMQ refuses.

    Raises:
        InvalidOptionError: empty, with a colon, not printable, or longer than 200 characters.
    """
    if not isinstance(name, str) or not name:
        raise errors.InvalidOptionError(field, "a queue name may not be empty")
    if ":" in name:
        raise errors.InvalidOptionError(field, f"a queue name may not hold a colon: {name[:80]!r}")
    if len(name) > MAX_QUEUE_NAME or not name.isprintable():
        raise errors.InvalidOptionError(field, f"must be at most {MAX_QUEUE_NAME} printable characters")
    return name


def check_name(name: object) -> None:
    """Refuse what cannot be a job's name. Raises InvalidOptionError."""
    if not isinstance(name, str) or not name:
        raise errors.InvalidOptionError("name", "must be text and not empty")
    if len(name) > MAX_NAME:
        raise errors.InvalidOptionError("name", f"must be at most {MAX_NAME} characters; what is long belongs to data")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise errors.InvalidOptionError("name", "holds a lone surrogate, which is no text") from None


def links_to_json(options: JobOptions, *, waits_for_children: bool = False) -> str:
    """What `NewJob.links_json` holds for these options."""
    if options.parent is None and options.deduplication is None and not waits_for_children:
        return ""
    links: dict[str, Any] = {}
    if options.parent is not None:
        links["parentKey"] = options.parent.key
        links["parent"] = _compact(options.parent.to_field(options.wire))
    if options.deduplication is not None:
        links["deduplication"] = options.deduplication
    if waits_for_children:
        links["waitsForChildren"] = True
    return _compact(links)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def whole_number(raw: bytes | None) -> int | None:
    """A stored number; None when it is missing or no number. Fractions (of a float clock) are cut."""
    if raw is None:
        return None
    try:
        return int(raw)
    except ValueError:
        try:
            return int(float(raw))
        except (ValueError, OverflowError):
            return None


def text_of_id(job_id: bytes) -> str:
    """A job id as text. Bytes of a foreign one that are no UTF-8 are kept as `surrogateescape` keeps them."""
    return str(job_id, "utf-8", "surrogateescape")


def fields_of(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash from a flat reply: name, value, name, value … (a later value wins)."""
    pairs = iter(flat)
    return dict(zip(pairs, pairs, strict=True))


def attempts_made_in(fields: Mapping[bytes, bytes]) -> int:
    """Attempts that have ended, by a job's hash."""
    older = whole_number(fields.get(b"attemptsMade"))
    return older if older is not None else whole_number(fields.get(b"atm")) or 0


def attempts_started_in(fields: Mapping[bytes, bytes]) -> int:
    return whole_number(fields.get(b"ats")) or 0


class JobRecord:
    """A stored job. Fields are decoded when they are asked for; a missing one reads as BullMQ reads it."""

    __slots__ = ("_data", "_fields", "_opts", "id", "name")
    _missing: Any = object()

    def __init__(self, job_id: str, fields: dict[bytes, bytes]) -> None:
        """Args:
        job_id: of a foreign job it may be no UTF-8: see `text_of_id`.
        fields: the job's hash as Redis returns it (`HGETALL`).
        """
        self.id = job_id
        self.name = str(fields.get(b"name", b""), "utf-8", "replace")
        self._fields = fields
        self._data: Any = self._missing
        self._opts: dict[str, Any] | None = None

    @classmethod
    def from_reply(cls, job_id: bytes, flat: Sequence[bytes]) -> JobRecord:
        """Build from an `HGETALL` reply."""
        return cls(text_of_id(job_id), fields_of(flat))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.name}>"

    # ---- raw access

    def text(self, field: str) -> str | None:
        """One field of the hash as text; None when it is not there."""
        raw = self._fields.get(field.encode())
        return None if raw is None else raw.decode(errors="replace")

    def number(self, field: str) -> int | None:
        """One field as a whole number; None when it is missing or no number. Fractions (of a float clock) are cut."""
        return whole_number(self._fields.get(field.encode()))

    # ---- what a caller asks for

    @property
    def data(self) -> Any:
        """The job's data. Raises InvalidPayloadError when the stored text is not JSON."""
        if self._data is self._missing:
            self._data = codec.decode(self._fields.get(b"data", b""))
        return self._data

    @property
    def opts(self) -> dict[str, Any]:
        """Options under their public names; `{}` when missing. Raises InvalidPayloadError when not a JSON object."""
        if self._opts is None:
            stored = codec.decode(self._fields.get(b"opts", b""), "opts")
            if not isinstance(stored, dict):
                raise errors.InvalidPayloadError("opts", "is not a JSON object")
            self._opts = public(stored)
        return self._opts

    @property
    def trace_metadata(self) -> str | None:
        """The trace that the job belongs to, as text; None = none, or what is stored makes no sense."""
        try:
            found = self.opts.get("telemetry", {}).get("metadata")
        except errors.InvalidPayloadError:
            return None
        return found if isinstance(found, str) else None

    @property
    def opts_json(self) -> bytes:
        """The options as they are stored; empty when there are none."""
        return self._fields.get(b"opts", b"")

    @property
    def timestamp_ms(self) -> int:
        """When the job was created, Unix milliseconds."""
        return whole_number(self._fields.get(b"timestamp")) or 0

    @property
    def delay_ms(self) -> int:
        return self.number("delay") or 0

    @property
    def priority(self) -> int:
        return self.number("priority") or 0

    @property
    def attempts_made(self) -> int:
        """Attempts that have ended. During the first attempt 0, after a success at once 1."""
        return attempts_made_in(self._fields)

    @property
    def attempts_started(self) -> int:
        return attempts_started_in(self._fields)

    @property
    def stalled_count(self) -> int:
        return self.number("stc") or 0

    @property
    def processed_on_ms(self) -> int | None:
        """When the latest attempt started, Unix milliseconds."""
        return whole_number(self._fields.get(b"processedOn"))

    @property
    def finished_on_ms(self) -> int | None:
        return self.number("finishedOn")

    @property
    def processed_by(self) -> str | None:
        """Name of the worker of the latest attempt."""
        return self.text("pb")

    @property
    def progress(self) -> Any:
        raw = self._fields.get(b"progress")
        return 0 if raw is None else codec.decode(raw, "progress")

    @property
    def return_value(self) -> Any:
        """What the processor returned; None while there is nothing, or when it returned nothing."""
        raw = self._fields.get(b"returnvalue")
        return None if raw is None else codec.decode(raw, "returnvalue")

    @property
    def failed_reason(self) -> str | None:
        """Text of the latest failure; stays when a later attempt completes."""
        return self.text("failedReason")

    @property
    def stacktrace(self) -> tuple[str, ...]:
        """One entry a failed attempt, oldest first."""
        raw = self._fields.get(b"stacktrace")
        if not raw:
            return ()
        try:
            entries = json.loads(raw)
        except (ValueError, RecursionError):
            return ()
        return tuple(str(entry) for entry in entries) if isinstance(entries, list) else ()

    @property
    def scheduler_id(self) -> str | None:
        """Job scheduler that made this job."""
        raw = self._fields.get(b"rjk")
        return None if raw is None else raw.decode(errors="replace")

    @property
    def deferred_failure(self) -> str | None:
        """Set: the next worker must fail the job with this text instead of running it."""
        raw = self._fields.get(b"defa")
        return None if raw is None else raw.decode(errors="replace")
