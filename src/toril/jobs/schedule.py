"""The slots of a scheduler: BullMQ's `repeat` options and its arithmetic. Pure; the only user of croniter.

A *slot* is the moment for which a job is made, Unix milliseconds. It is part of the job's id:
`repeat:<scheduler>:<slot>`.
"""

from __future__ import annotations

import calendar
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from toril import errors

if TYPE_CHECKING:
    # Every worker imports this module when it starts, so what only cron patterns need is imported when there is one.
    from toril.jobs.cron_dialect import Dialect
    from toril.jobs.cron_dialects import CronFields

MAX_MS = 2**53
LAST_MS = 2**41 * 4
"""Latest slot of a cron pattern, in the year 2248: the scores of `delayed` hold no later due time."""
_OPTIONS = frozenset(("pattern", "every", "offset", "tz", "startDate", "endDate", "limit", "immediately"))
_OVERLAP = timedelta(hours=3)
"""Longest time by which a zone's clock is put back."""
_MAX_DAYS = 28 * 366
"""Days that are searched for a pattern: after 28 years the weekdays of the calendar repeat."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A checked schedule: a cron pattern, or a fixed interval. Times are Unix milliseconds, lengths milliseconds."""

    pattern: str = ""
    """Cron, five fields or six with seconds first; empty = `every_ms` counts."""
    every_ms: int = 0
    offset_ms: int = 0
    """Of an interval: slots are at its multiples plus this. 0: the first slot decides."""
    tz: str = ""
    """Time zone of the pattern; empty = UTC. BullMQ takes the zone of its process for an empty one."""
    start_ms: int | None = None
    end_ms: int | None = None
    limit: int | None = None
    """How many jobs are made in all; None = no limit."""
    immediately: bool = False
    """Of a pattern: the first job is made at once."""
    writer: Dialect | None = field(default=None, compare=False)
    """Of a stored schedule: the version of BullMQ that probably stored the pattern, whose reading counts. None: a
    caller gave the schedule, and both versions read it alike."""
    seed: str = field(default="", compare=False)
    """Of a stored schedule: with the moment, this determines the numbers that replace `H`."""
    hash_seed: str = ""
    """BullMQ 6's option `hashSeed`: this alone determines the numbers that replace `H`."""

    @classmethod
    def from_bullmq(cls, repeat: Mapping[str, Any], path: str = "repeat") -> Schedule:
        """Check a mapping with BullMQ's names and units; dates are milliseconds, or `datetime`s with a time zone.

        Raises:
            InvalidOptionError: an unknown name, a wrong value, or names that exclude each other; `field` is its path.
        """
        given = {name: value for name, value in repeat.items() if value is not None}
        if unknown := given.keys() - _OPTIONS:
            raise errors.InvalidOptionError(
                f"{path}.{min(unknown)}", f"is unknown; known options are {', '.join(sorted(_OPTIONS))}"
            )
        if ("pattern" in given) == ("every" in given):
            raise errors.InvalidOptionError(path, "takes exactly one of `pattern` and `every`")
        schedule = cls(
            pattern=_pattern(given["pattern"], f"{path}.pattern") if "pattern" in given else "",
            every_ms=_whole(given["every"], f"{path}.every", 1) if "every" in given else 0,
            offset_ms=_whole(given.get("offset", 0), f"{path}.offset", 0),
            tz=_zone_name(given.get("tz", ""), f"{path}.tz"),
            start_ms=_moment(given.get("startDate"), f"{path}.startDate"),
            end_ms=_moment(given.get("endDate"), f"{path}.endDate"),
            limit=_whole(given["limit"], f"{path}.limit", 1) if "limit" in given else None,
            immediately=_flag(given.get("immediately", False), f"{path}.immediately"),
        )
        schedule._check_together(path)
        return schedule

    @classmethod
    def from_stored(cls, repeat: Mapping[str, Any], writer: Dialect, seed: str, path: str = "repeat") -> Schedule:
        """Read BullMQ's options of a stored series as its writer does.

        Args:
            repeat: the options; `hashSeed` counts with BullMQ 6 and `utc` with BullMQ 5. Unknown names are left out.
            seed: see the field.

        Raises:
            InvalidOptionError: the series cannot be carried on; `field` is the path of the invalid option. The pattern
                itself is read later, by `first_slot_ms` and `next_slot_ms`, which raise the same error.
        """
        given = {name: repeat[name] for name in _OPTIONS if repeat.get(name) not in (None, "", 0)}
        pattern, tz = given.pop("pattern", None), given.pop("tz", "")
        if pattern is None:
            # The zone of an interval has no effect, so its name is not checked.
            return replace(cls.from_bullmq(given, path), tz=str(tz))
        from toril.jobs import time_zones
        from toril.jobs.cron_dialect import Dialect

        if not isinstance(pattern, str) or not isinstance(tz, str):
            raise errors.InvalidOptionError(path, "takes text as `pattern` and `tz`")
        if writer is Dialect.BULLMQ_5 and repeat.get("utc") is True:
            tz = "UTC"
        if writer is Dialect.BULLMQ_5 and repeat.get("nthDayOfWeek"):
            raise errors.InvalidOptionError(f"{path}.nthDayOfWeek", "is not known here")
        time_zones.find_stored(tz, f"{path}.tz")
        hash_seed = repeat.get("hashSeed")
        return cls(
            pattern=pattern,
            tz=tz,
            start_ms=_moment(given.get("startDate"), f"{path}.startDate"),
            end_ms=_moment(given.get("endDate"), f"{path}.endDate"),
            limit=_whole(given["limit"], f"{path}.limit", 1) if "limit" in given else None,
            writer=writer,
            seed=seed,
            hash_seed=hash_seed if isinstance(hash_seed, str) else "",
        )

    def _check_together(self, path: str) -> None:
        if self.offset_ms and (self.pattern or self.offset_ms >= self.every_ms):
            raise errors.InvalidOptionError(f"{path}.offset", "is for `every`, and shorter than it")
        if self.immediately and self.start_ms is not None:
            raise errors.InvalidOptionError(f"{path}.immediately", "cannot be together with `startDate`")
        if self.start_ms is not None and self.end_ms is not None and self.end_ms <= self.start_ms:
            raise errors.InvalidOptionError(f"{path}.endDate", "must be later than `startDate`")

    def to_bullmq(self) -> dict[str, Any]:
        """BullMQ's `repeat` option of the jobs, without `count`; options that are not given are left out."""
        named = {
            "pattern": self.pattern,
            "every": self.every_ms,
            "tz": self.tz,
            "offset": self.offset_ms,
            "limit": self.limit,
            "startDate": self.start_ms,
            "endDate": self.end_ms,
        }
        return {name: value for name, value in named.items() if value not in ("", 0, None)}

    def is_over(self, now_ms: int, jobs_made: int) -> bool:
        """Whether the series has ended: `limit` jobs were made, or `endDate` has passed."""
        if self.limit is not None and jobs_made >= self.limit:
            return True
        return self.end_ms is not None and now_ms > self.end_ms

    def first_slot_ms(self, now_ms: int) -> int | None:
        """The slot of the first job; None when there is none."""
        if self.pattern:
            return now_ms if self.immediately else self._next_by_pattern(now_ms)
        if self.start_ms is not None:
            return max(self.start_ms, now_ms)
        return _aligned(now_ms, self.every_ms, self.offset_ms) if self.offset_ms else now_ms

    def next_slot_ms(self, slot_ms: int, now_ms: int, *, offset_ms: int = 0) -> int | None:
        """The slot after `slot_ms`; None when there is none.

        Slots that have passed by `now_ms` are left out, so that at most one job is made for all of them. Later slots
        stay where they would have been.

        Args:
            offset_ms: stored with the first slot, for an interval without an offset of its own.
        """
        if self.pattern:
            return self._next_by_pattern(max(now_ms, slot_ms))
        following = slot_ms + self.every_ms
        return following if following >= now_ms else _aligned(now_ms, self.every_ms, offset_ms)

    def _next_by_pattern(self, after_ms: int) -> int | None:
        after_ms = max(after_ms, self.start_ms or 0)
        if after_ms > LAST_MS:
            return None
        slot = _next_cron_ms(self._fields(after_ms), self.tz, after_ms)
        if slot is None or (self.end_ms is not None and slot > self.end_ms):
            return None
        return slot

    def _fields(self, after_ms: int) -> CronFields:
        """The pattern for the first slot after a moment: the numbers for `H` differ from slot to slot."""
        seed = self.hash_seed or f"{self.seed}:{after_ms}"
        return _known_pattern(self.pattern, self.writer, seed if "H" in self.pattern else "")


def _aligned(now_ms: int, every_ms: int, offset_ms: int) -> int:
    """The next multiple of the interval, plus the offset, that is later than now."""
    slot = now_ms // every_ms * every_ms + offset_ms
    return slot if slot > now_ms else slot + every_ms


# ---- cron --------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=512)
def _known_pattern(pattern: str, writer: Dialect | None, seed: str) -> CronFields:
    from toril.jobs import cron_pattern

    if writer is None:
        return cron_pattern.parse(pattern)
    return cron_pattern.read_stored(pattern, writer, seed, "repeat.pattern")


def _next_cron_ms(fields: CronFields, tz: str, after_ms: int) -> int | None:
    """The next moment of a pattern by local time, strictly later than `after_ms`.

    A local time that is skipped when clocks go forward is run later, by as much as is skipped. A local time that comes
    twice is run the first time; a pattern for every hour is run both times.
    """
    from toril.jobs import time_zones

    zone = time_zones.find_stored(tz)
    # Whole seconds: patterns have no smaller unit.
    after = datetime.fromtimestamp(after_ms // 1000, UTC)
    wall = after.astimezone(zone)
    following = _next_wall(fields, wall.replace(tzinfo=None))
    if following is None:
        return None
    # A local time within a gap gets the offset from before the gap, and so moves by the length of the gap.
    moment = following.replace(tzinfo=zone).astimezone(UTC)
    if moment <= after:
        moment = following.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if fields.runs_in_all_hours:
        moment = _in_doubled_hour(fields, zone, after, moment) or moment
    return round(moment.timestamp() * 1000)


def _next_wall(fields: CronFields, after: datetime) -> datetime | None:
    """The next local time that fits the pattern, without regard to changes of the clock."""
    from croniter import croniter

    lists = (fields.seconds, fields.minutes, fields.hours, fields.months)
    second, minute, hour, month = (",".join(map(str, values)) for values in lists)
    times = croniter(f"{second} {minute} {hour} * {month} *", after, second_at_beginning=True)
    for _ in range(_MAX_DAYS):
        at: datetime = times.get_next(datetime)
        length = calendar.monthrange(at.year, at.month)[1]
        if fields.days.fits(at.month, at.day, at.isoweekday() % 7, length):
            return at
        times.set_current(at.replace(hour=23, minute=59, second=59))
    return None


def _in_doubled_hour(fields: CronFields, zone: tzinfo, after: datetime, moment: datetime) -> datetime | None:
    """The first time between `after` and `moment` that fits and whose local time comes for the second time."""

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    low, high = after, min(moment, after + _OVERLAP)
    if offset(high) >= offset(low):
        return None
    end = offset(high)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        low, high = (low, middle) if offset(middle) == end else (middle, high)
    second_pass = high.astimezone(zone).replace(tzinfo=None) - timedelta(seconds=1)
    following = _next_wall(fields, second_pass)
    if following is None:
        return None
    doubled = following.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return doubled if after < doubled < moment else None


# ---- checking ----------------------------------------------------------------------------------------------------


def _pattern(value: Any, path: str) -> str:
    from toril.jobs import cron_pattern

    if not isinstance(value, str) or not value.strip():
        raise errors.InvalidOptionError(path, "must be a cron pattern")
    cron_pattern.parse(value, path)
    return value


def _zone_name(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise errors.InvalidOptionError(path, "must be the name of a time zone, such as Europe/Berlin")
    if value:
        from toril.jobs import time_zones

        time_zones.find(value, path)
    return value


def _moment(value: Any, path: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise errors.InvalidOptionError(path, "must have a time zone")
        return round(value.timestamp() * 1000)
    if isinstance(value, str):
        try:
            return _moment(datetime.fromisoformat(value), path)
        except ValueError:
            raise errors.InvalidOptionError(path, "must be a date and time with a zone (RFC 3339)") from None
    return _whole(value, path, 0)


def _whole(value: Any, path: str, lowest: int) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value != int(value) or not lowest <= value <= MAX_MS:
        raise errors.InvalidOptionError(path, f"must be a whole number, {lowest} or more")
    return int(value)


def _flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise errors.InvalidOptionError(path, "must be true or false")
    return value
