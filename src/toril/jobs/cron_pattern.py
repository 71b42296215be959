"""Which cron patterns are accepted, and how stored ones are read. Pure.

A caller's pattern must mean the same times to BullMQ 5 and BullMQ 6, since workers of both may carry a series on. A
stored pattern is read as the version that stored it reads it. `H` is replaced by a random number before each run, as in
BullMQ 6.
"""

from __future__ import annotations

from toril import errors
from toril.jobs import cron_dialects
from toril.jobs.cron_dialect import Dialect
from toril.jobs.cron_dialects import CronFields, Draw

_KNOWN_TO_6 = {
    "@annually": "0 0 1 1 *",
    "@minutely": "* * * * *",
    "@secondly": "* * * * * *",
    "@weekdays": "0 0 * * 1-5",
    "@weekends": "0 0 * * 0,6",
}
_LOW_BITS = 2**32 - 1


def parse(pattern: str, path: str = "pattern") -> CronFields:
    """Read a caller's pattern.

    Raises:
        InvalidOptionError: a version of BullMQ refuses the pattern, or the two read different times.
    """
    if plain := _KNOWN_TO_6.get(pattern):
        raise errors.InvalidOptionError(path, f"{pattern} is not known to BullMQ 5: write {plain}")
    newer, older = (_read_by_caller(pattern, dialect, path) for dialect in (Dialect.BULLMQ_6, Dialect.BULLMQ_5))
    days = [day for day in cron_dialects.all_days() if day[0] in newer.months]
    if _times(newer) != _times(older) or any(newer.days.fits(*day) != older.days.fits(*day) for day in days):
        raise errors.InvalidOptionError(path, f"BullMQ 5 and BullMQ 6 read {pattern[:60]!r} as different days")
    return newer


def read_stored(pattern: str, writer: Dialect, seed: str, path: str = "pattern") -> CronFields:
    """Read a stored pattern as `writer` does, or as the other version does when `writer` refuses it.

    Args:
        writer: the version that has probably stored it.
        seed: determines the numbers that replace `H`.

    Raises:
        InvalidOptionError: neither version reads it.
    """
    other = Dialect.BULLMQ_5 if writer is Dialect.BULLMQ_6 else Dialect.BULLMQ_6
    try:
        return cron_dialects.read(pattern, writer, seeded(seed), path)
    except errors.InvalidOptionError as problem:
        try:
            return cron_dialects.read(pattern, other, seeded(seed), path)
        except errors.InvalidOptionError:
            raise problem from None


def seeded(seed: str) -> Draw:
    """The random numbers that cron-parser 5 draws for the option `hashSeed`; the same text gives the same numbers."""
    state = _fnv_1a(seed)

    def draw() -> float:
        nonlocal state
        state = (state + 0x6D2B79F5) & _LOW_BITS
        mixed = ((state ^ (state >> 15)) * (state | 1)) & _LOW_BITS
        mixed ^= (mixed + ((mixed ^ (mixed >> 7)) * (mixed | 61))) & _LOW_BITS
        return (mixed ^ (mixed >> 14)) / 2**32

    return draw


def _fnv_1a(text: str) -> int:
    """FNV-1a of a text's UTF-16 code units, as cron-parser 5 computes it."""
    units = text.encode("utf-16-le", "surrogatepass")
    value = 2166136261
    for at in range(0, len(units), 2):
        value = ((value ^ int.from_bytes(units[at : at + 2], "little")) * 16777619) & _LOW_BITS
    return value


def _read_by_caller(pattern: str, dialect: Dialect, path: str) -> CronFields:
    try:
        return cron_dialects.read(pattern, dialect, lambda: 0.0, path)
    except errors.InvalidOptionError as problem:
        raise errors.InvalidOptionError(
            path, f"{problem.problem} (BullMQ {dialect.value} refuses the pattern)"
        ) from None


def _times(fields: CronFields) -> tuple[object, ...]:
    return (fields.seconds, fields.minutes, fields.hours, fields.months, fields.runs_in_all_hours)
