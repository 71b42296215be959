"""Which finished jobs are kept: BullMQ's `removeOnComplete` and `removeOnFail`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toril import errors

LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """Which finished jobs stay. Applied when a job with the same outcome finishes, as BullMQ does."""

    count: int | None = None
    """How many of the newest jobs stay; 0 = none, the finishing job included; None = no limit by count."""
    age_seconds: float | None = None
    """Jobs that finished longer ago are removed; None = no limit by age."""
    limit: int | None = None
    """How many jobs one finish removes by age at most; None = BullMQ's 1000."""

    @classmethod
    def parse(cls, value: Any, field: str) -> KeepPolicy | None:
        """Read BullMQ's forms: absent (None: the worker's default applies), bool, number, `{count, age, limit}`.

        Raises:
            InvalidOptionError: another form; names the field.
        """
        if value is None:
            return None
        if isinstance(value, bool):
            return KEEP_NONE if value else KEEP_ALL
        if isinstance(value, int | float):
            return KEEP_ALL if value < 0 else cls(count=_whole(value, field))
        if not isinstance(value, Mapping):
            raise errors.InvalidOptionError(field, "must be true, false, a number or {count, age, limit}")
        for key in value:
            if key not in ("count", "age", "limit"):
                raise errors.InvalidOptionError(f"{field}.{key}", "is unknown; known are count, age, limit")
        count, limit, age = value.get("count"), value.get("limit"), value.get("age")
        if age is not None and not (_is_number(age) and age >= 0):
            raise errors.InvalidOptionError(f"{field}.age", "must be a number of seconds, 0 or more")
        parsed_count = None if count is None else _whole(count, f"{field}.count")
        return cls(
            count=None if parsed_count is not None and parsed_count < 0 else parsed_count,
            age_seconds=age,
            limit=None if limit is None else _whole(limit, f"{field}.limit"),
        )


KEEP_ALL = KeepPolicy()
KEEP_NONE = KeepPolicy(count=0)


def choose(job_option: Any, default: KeepPolicy | None, field: str) -> KeepPolicy:
    """The policy of one finish: the job's own option, else the worker's default, else `KEEP_ALL`."""
    own = KeepPolicy.parse(job_option, field)
    return own or default or KEEP_ALL


def _whole(value: Any, field: str) -> int:
    if not _is_number(value) or value != int(value):
        raise errors.InvalidOptionError(field, "must be a whole number")
    return int(value)


def _is_number(value: Any) -> bool:
    """Whether Redis and JavaScript hold the number exactly."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
