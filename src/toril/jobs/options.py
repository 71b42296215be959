"""Job options: BullMQ's names and units, checked once, and the JSON that is stored as `opts`."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toril import errors
from toril.jobs import deduplication, hints, telemetry
from toril.jobs.backoff import Backoff
from toril.jobs.codec import MAX_SAFE_INTEGER
from toril.jobs.parents import FAILURE_POLICIES, ParentLink
from toril.jobs.retention import KeepPolicy

MAX_PRIORITY = 2**21 - 1
SHORT_CODES = {
    "deduplication": "de",
    **FAILURE_POLICIES,
    "keepLogs": "kl",
}
"""Public option name → the name under which BullMQ stores it. `telemetry` becomes `tm` and `omc`."""
LONG_NAMES = {code: name for name, code in SHORT_CODES.items()}
LARGEST_NUMBER = sys.float_info.max
"""JavaScript's `Number.MAX_VALUE`, which producers give as `attempts` for "without end"."""

_WHOLE_NUMBERS: Mapping[str, tuple[float, float]] = {
    # name: (lowest, highest)
    "attempts": (0, LARGEST_NUMBER),
    "priority": (0, MAX_PRIORITY),
    "keepLogs": (0, LARGEST_NUMBER),
    "stackTraceLimit": (0, LARGEST_NUMBER),
    "sizeLimit": (0, LARGEST_NUMBER),
    "torilMaxDelay": (0, LARGEST_NUMBER),
}
_FLAGS = {"lifo", *FAILURE_POLICIES}
_KNOWN = {
    *_WHOLE_NUMBERS, *_FLAGS, "delay", "backoff", "removeOnComplete", "removeOnFail", "jobId", "timestamp", "parent",
    "deduplication", "telemetry",
}  # fmt: skip
_KNOWN_TEXT = ", ".join(sorted(_KNOWN))

_RESERVED_IDS = frozenset(
    (
        "id", "wait", "paused", "active", "prioritized", "pc", "delayed", "waiting-children", "completed", "failed",
        "marker", "meta", "events", "limiter", "stalled", "stalled-check", "repeat", "de", "dn", "metrics", "priority",
        "delay", "toril",
    )
)  # fmt: skip
_NUMBER_LIKE = re.compile(r"(0|-?[1-9][0-9]*)\Z")


@dataclass(frozen=True)
class JobOptions:
    """Checked options of one job, or of many. `wire` is what is stored; the other fields are what adding reads
    often."""

    wire: Mapping[str, Any] = field(default_factory=lambda: {"attempts": 0})
    job_id: str = ""
    """Empty: the script takes the next number from `id`."""
    delay_ms: float = 0
    priority: int = 0
    lifo: bool = False
    timestamp_ms: float | None = None
    """When the job counts as created, Unix milliseconds; None = when it is added."""
    size_limit_bytes: float | None = None
    deduplication: Mapping[str, Any] | None = None
    """BullMQ's option of that name, checked."""
    parent: ParentLink | None = None
    has_attempts: bool = False
    """Whether `attempts` was given; `wire` always has it."""
    _merged: tuple[JobOptions, JobOptions] | None = field(default=None, init=False, compare=False, repr=False)
    """The latest argument of `over` and its result."""

    @functools.cached_property
    def wire_json(self) -> str:
        """`wire` as it is stored; written once for all jobs that share the options."""
        return json.dumps(self.wire, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_bullmq(cls, options: Mapping[str, Any] | None, path: str = "opts") -> JobOptions:
        """Check a mapping with BullMQ's option names and units (milliseconds; `age` in seconds).

        None as a value counts as not given, because a stored JSON null breaks Node workers.

        Raises:
            InvalidOptionError: unknown name or a value out of range; `field` is its path.
        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        if "debounce" in given:
            # BullMQ 5's older word.
            if "deduplication" in given:
                raise errors.InvalidOptionError(f"{path}.debounce", "give either `deduplication` or `debounce`")
            given["deduplication"] = deduplication.checked(given.pop("debounce"), f"{path}.debounce")
        wire = telemetry.to_wire(given, path)
        for name, value in given.items():
            if name not in telemetry.NAMES:
                wire[SHORT_CODES.get(name, name)] = _checked(name, value, f"{path}.{name}")
        has_attempts = "attempts" in wire
        wire.setdefault("attempts", 0)
        delay = wire.get("delay", 0)
        chosen = [name for name, code in FAILURE_POLICIES.items() if wire.get(code)]
        if len(chosen) > 1:
            raise errors.InvalidOptionError(f"{path}.{chosen[1]}", f"may not be true together with {chosen[0]}")
        if "parent" in wire and "de" in wire:
            raise errors.InvalidOptionError(f"{path}.deduplication", "may not be given together with parent")
        return cls(
            wire=wire,
            job_id=wire.get("jobId", ""),
            delay_ms=max(delay, 0),
            priority=wire.get("priority", 0),
            lifo=wire.get("lifo", False),
            timestamp_ms=wire.get("timestamp"),
            size_limit_bytes=wire.get("sizeLimit"),
            deduplication=wire.get("de"),
            parent=ParentLink.parse(wire["parent"], f"{path}.parent") if "parent" in wire else None,
            has_attempts=has_attempts,
        )

    def over(self, defaults: JobOptions) -> JobOptions:
        """These options, with those of `defaults` where none is given. The same two give the same object.

        Args:
            defaults: without options that belong to one job; see `QueueDefaults.create`.
        """
        if self._merged is None or self._merged[0] is not defaults:
            object.__setattr__(self, "_merged", (defaults, self._over(defaults)))
        assert self._merged is not None
        return self._merged[1]

    def _over(self, defaults: JobOptions) -> JobOptions:
        own = {name: value for name, value in self.wire.items() if name != "attempts" or self.has_attempts}
        wire = merge_wire(own, defaults.wire)
        if wire == self.wire:
            return self
        return dataclasses.replace(
            self,
            wire=wire,
            delay_ms=wire.get("delay", 0),
            priority=wire.get("priority", 0),
            lifo=wire.get("lifo", False),
            size_limit_bytes=wire.get("sizeLimit"),
            has_attempts=self.has_attempts or defaults.has_attempts,
        )

    def under(self, parent: ParentLink) -> JobOptions:
        """The same options for a child of `parent`. Raises InvalidOptionError: a child may have no deduplication."""
        if self.deduplication is not None:
            raise errors.InvalidOptionError("deduplication", "is not possible for a job with a parent")
        return dataclasses.replace(self, wire={**self.wire, "parent": parent.to_option()}, parent=parent)

    def in_trace(self, metadata: str) -> JobOptions:
        """The same options with a trace context, unless they have one or `omitContext` is true."""
        if "tm" in self.wire or self.wire.get("omc"):
            return self
        return dataclasses.replace(self, wire={**self.wire, "tm": metadata})

    def with_id(self, job_id: str) -> JobOptions:
        """The same options for a job with this id. The id is generated, so it does not become the option `jobId`."""
        return dataclasses.replace(self, job_id=job_id)


def public(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options under the names by which callers give them, `telemetry` included."""
    options = {LONG_NAMES.get(name, name): value for name, value in stored.items() if name not in ("tm", "omc")}
    if found := telemetry.of_wire(stored):
        options["telemetry"] = found
    return options


def attempts_in(options: Mapping[str, Any]) -> int | float:
    """How many attempts stored options allow in all; 0 = nothing valid is stored, which allows one attempt.

    As JavaScript compares: a fraction allows one more (2.5 = three attempts), and text counts as its number. A number
    beyond 2**53 is returned as it is stored, so that it can be sent on as JSON.
    """
    value = options.get("attempts")
    try:
        number = float(value) if isinstance(value, str | int | float) else 0
    except (ValueError, OverflowError):
        return 0
    if number != number or number <= 0:
        return 0
    return math.ceil(number) if number <= MAX_SAFE_INTEGER else min(number, LARGEST_NUMBER)


def count_in(value: Any) -> int | None:
    """A stored count, such as `keepLogs`, at most 2**53; None = the value is no count."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value < 0:
        return None
    return int(min(value, MAX_SAFE_INTEGER))


def merge_wire(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options over stored defaults. What goes together is taken from one of the two."""
    base = dict(defaults)
    if "backoff" in own:
        # The longest pause belongs to the backoff that it was written for.
        base.pop("torilMaxDelay", None)
    if not own.keys().isdisjoint(FAILURE_POLICIES.values()):
        for code in FAILURE_POLICIES.values():
            base.pop(code, None)
    return {**base, **own}


def _checked(name: str, value: Any, path: str) -> Any:
    """Return the value as it is stored, or raise."""
    if name in _WHOLE_NUMBERS:
        return _whole_number(value, path, *_WHOLE_NUMBERS[name])
    if name not in _KNOWN:
        raise errors.InvalidOptionError(path, hints.of_bullmq(name) or f"is unknown; known options are {_KNOWN_TEXT}")
    if name in ("delay", "timestamp"):
        if not _is_number(value) or not math.isfinite(value) or value < 0:
            raise errors.InvalidOptionError(path, "must be a number of milliseconds, 0 or more")
        return int(value) if value <= MAX_SAFE_INTEGER and float(value).is_integer() else float(value)
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise errors.InvalidOptionError(path, "must be true or false")
        return value
    if name == "backoff":
        parsed = Backoff.parse(value, path)
        return parsed.to_wire() if parsed else None
    if name == "jobId":
        return checked_job_id(value, path)
    if name == "deduplication":
        return deduplication.checked(value, path)
    if name == "parent":
        return ParentLink.parse(value, path).to_option()
    KeepPolicy.parse(value, path)
    if isinstance(value, Mapping):
        return {key: inner for key, inner in value.items() if inner is not None}
    return value


def checked_job_id(value: Any, path: str = "opts.jobId") -> str:
    """Return a caller's job id, or refuse those that BullMQ refuses and those that would break the queue.

    Raises:
        InvalidOptionError: a number, `0`, with a colon (but for exactly two), a name of one of the queue's own keys,
            longer than 256 characters, or not printable.
    """
    if not isinstance(value, str):
        raise errors.InvalidOptionError(path, "must be text")
    if _NUMBER_LIKE.match(value) or value == "-0":
        raise errors.InvalidOptionError(path, f"{value!r} is a number; those are given by the queue itself")
    if value.startswith("0:") or value.count(":") not in (0, 2):
        raise errors.InvalidOptionError(path, "may not hold a colon")
    if value in _RESERVED_IDS or value.split(":")[0] in ("repeat", "de", "dn", "metrics", "toril"):
        raise errors.InvalidOptionError(path, f"{value!r} is the name of one of the queue's own keys")
    if len(value) > 256 or not value.isprintable():
        raise errors.InvalidOptionError(path, "must be at most 256 printable characters")
    return value


def _whole_number(value: Any, path: str, lowest: float, highest: float) -> int | float:
    """Numbers beyond 2**53 stay as JavaScript writes them."""
    if not _is_number(value) or value % 1 != 0 or not lowest <= value <= highest:
        raise errors.InvalidOptionError(path, f"must be a whole number from {lowest:.17g} to {highest:.17g}")
    return int(value) if value <= MAX_SAFE_INTEGER else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
