"""When the jobs of a scheduler come: BullMQ's `repeat` options and its arithmetic. Pure; the only user of croniter.

A *slot* is the moment for which a job is made, Unix milliseconds. The job's id carries it:
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
    # What calendars need is loaded when there is one: every worker starts with this module.
    from toril.jobs.cron_dialect import Dialect
    from toril.jobs.cron_dialects import CronFields

MAX_MS = 2**53
LAST_MS = 2**41 * 4
"""Calendars end here, in the year 2248: later due times are beyond what `delayed` can hold."""
_OPTIONS = frozenset(("pattern", "every", "offset", "tz", "startDate", "endDate", "limit", "immediately"))
_OVERLAP = timedelta(hours=3)
"""No clock is put back by more."""
_MAX_DAYS = 28 * 366
"""Days of one pattern that are looked at: after 28 years the calendar's weekdays come again."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A checked schedule: a cron pattern, or a fixed interval. Times are Unix milliseconds, lengths milliseconds."""

    pattern: str = ""
    """Cron, five fields or six with seconds first; empty = `every_ms` counts."""
    every_ms: int = 0
    offset_ms: int = 0
    """With an interval: slots are at multiples of it plus this. 0 = where the first run happened to be."""
    tz: str = ""
    """IANA zone of the pattern; empty = UTC, while Node's BullMQ takes the zone of its process: better say it."""
    start_ms: int | None = None
    end_ms: int | None = None
    limit: int | None = None
    """How many jobs are made in all."""
    immediately: bool = False
    """With a pattern: the first job is made at once."""
    writer: Dialect | None = field(default=None, compare=False)
    """Of a stored schedule: the version of BullMQ that has probably written the pattern, and by which it is read.
    None = given by a caller; then both versions read it alike."""
    seed: str = field(default="", compare=False)
    """Of a stored schedule: from it and from the moment follow the numbers that are drawn for `H`."""
    hash_seed: str = ""
    """BullMQ 6's option `hashSeed`: from it alone follow the numbers that are drawn for `H`."""

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
            InvalidOptionError: the series cannot be carried on; `field` is the path of what is not understood. A
                pattern is read, and may be refused, when a slot is asked for.
        """
        given = {name: repeat[name] for name in _OPTIONS if repeat.get(name) not in (None, "", 0)}
        pattern, tz = given.pop("pattern", None), given.pop("tz", "")
        if pattern is None:
            # An interval's zone has no effect, whatever its name.
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
        """BullMQ's `repeat` option of the jobs, without the count; nothing for what is not given."""
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
        """Whether no further job is made, after so many."""
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

        Slots that are over by `now_ms` are passed over: there is one job for all of them at most, and the series keeps
        its beat.

        Args:
            offset_ms: as stored by the first run, for an interval without an offset of its own.
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
        """The pattern as it is read for the first slot after a moment: `H` is drawn anew for each."""
        seed = self.hash_seed or f"{self.seed}:{after_ms}"
        return _known_pattern(self.pattern, self.writer, seed if "H" in self.pattern else "")


def _aligned(now_ms: int, every_ms: int, offset_ms: int) -> int:
    """The next slot of the beat that is later than now."""
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
    """The next moment of a pattern by the clock on the wall, strictly later than `after_ms`.

    A time that the clock skips is run later by as much as is skipped; one that comes twice is run the first time. A
    pattern that leaves the hour open runs through the doubled hour twice.
    """
    from toril.jobs import time_zones

    zone = time_zones.find_stored(tz)
    # Whole seconds: a pattern knows nothing smaller.
    after = datetime.fromtimestamp(after_ms // 1000, UTC)
    wall = after.astimezone(zone)
    following = _next_wall(fields, wall.replace(tzinfo=None))
    if following is None:
        return None
    # A time within a gap is taken by the offset from before it, and so moves by the gap.
    moment = following.replace(tzinfo=zone).astimezone(UTC)
    if moment <= after:
        moment = following.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if fields.runs_in_all_hours:
        moment = _in_doubled_hour(fields, zone, after, moment) or moment
    return round(moment.timestamp() * 1000)


def _next_wall(fields: CronFields, after: datetime) -> datetime | None:
    """The next time on the wall that fits, taking every day as having 24 hours."""
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
    """A fitting time between `after` and `moment` that the clock shows for the second time."""

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
