"""How BullMQ 5 and BullMQ 6 read a cron pattern. Pure.

BullMQ 5 uses cron-parser 4, BullMQ 6 uses cron-parser 5. A stored series goes on at the times that the version which
stored it computes, so both parsers are followed here in every detail. Callers may give fewer patterns: see
`toril.jobs.cron_pattern`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from toril import errors
from toril.jobs.cron_dialect import Dialect

MAX_LENGTH = 1024
"""Longest pattern, characters; cron-parser 5 has the same limit."""
_MAX_VALUES = 256
"""Largest number of values of one field in cron-parser 5, repetitions included."""
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ALIASES_5 = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ALIASES_6 = {
    **_ALIASES_5,
    "@annually": "0 0 1 1 *",
    "@minutely": "* * * * *",
    "@secondly": "* * * * * *",
    "@weekdays": "0 0 * * 1-5",
    "@weekends": "0 0 * * 0,6",
}
_DEFAULTS = ("0", "*", "*", "*", "*", "*")
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11,
    "dec": 12,
}  # fmt: skip
_WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_DRAWN = re.compile(r"H(?:\(([0-9]+)-([0-9]+)\))?(?:/([0-9]+))?")

Draw = Callable[[], float]
"""Gives the numbers, from 0 up to but without 1, by which `H` is replaced: one for each field, seconds first."""


@dataclass(frozen=True, slots=True)
class DayRule:
    """The days of a pattern."""

    of_month: frozenset[int]
    is_last_of_month: bool
    of_week: frozenset[int]
    """0 = Sunday."""
    last_of_week: frozenset[int]
    """Days of the week that are meant only within the last seven days of a month."""
    nth: int = 0
    """`#n`: only within the n-th seven days of a month; 0 = all."""
    limits_all_days: bool = False
    """Whether `nth` holds for days of the month too, as in BullMQ 5."""
    open_months: frozenset[int] = frozenset()
    """Months in which the field of days of the month counts as `*`."""
    is_week_open: bool = False
    """Whether the field of days of the week counts as `*`."""

    def fits(self, month: int, day: int, weekday: int, length: int) -> bool:
        """Args: weekday: 0 = Sunday. length: days of this month in this year."""
        is_nth = not self.nth or (day + 6) // 7 == self.nth
        by_month = day in self.of_month or (self.is_last_of_month and day == length)
        by_week = weekday in self.of_week and (is_nth or self.limits_all_days)
        by_week = by_week or (weekday in self.last_of_week and day > length - 7)
        if self.limits_all_days and not is_nth:
            return False
        if self.is_week_open:
            return by_month
        return by_week if month in self.open_months else by_month or by_week


@dataclass(frozen=True, slots=True)
class CronFields:
    """A parsed pattern."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    days: DayRule
    runs_in_all_hours: bool
    """Whether the pattern has every hour: then the hour that comes twice when clocks go back is run twice."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    allowed: Mapping[Dialect, re.Pattern[str]]
    names: Mapping[Dialect, Mapping[str, int]]
    knows_last: bool = False


def _field(name: str, lowest: int, highest: int, extra_5: str = "", extra_6: str = "", **more: bool) -> _Field:
    names_5 = {"month": _MONTHS, "day of the week": _WEEKDAYS}.get(name, {})
    # cron-parser 5 takes names of months among the weekdays, and the other way round.
    names_6 = {**_WEEKDAYS, **_MONTHS} if names_5 else {}
    with_range = r".*H\([0-9]+-[0-9]+\).*|.*H/[0-9]+.*"
    allowed = {
        Dialect.BULLMQ_5: re.compile(f"[,*0-9/{extra_5}-]+"),
        Dialect.BULLMQ_6: re.compile(f"[?,*0-9H/{extra_6}-]+|{with_range}"),
    }
    names = {Dialect.BULLMQ_5: names_5, Dialect.BULLMQ_6: names_6}
    return _Field(name, lowest, highest, allowed, names, **more)


_SECOND, _MINUTE, _HOUR = _field("second", 0, 59), _field("minute", 0, 59), _field("hour", 0, 23)
_DAY = _field("day of the month", 1, 31, "?L", "L", knows_last=True)
_MONTH = _field("month", 1, 12)
_WEEKDAY = _field("day of the week", 0, 7, "?L#", "L#", knows_last=True)


def read(pattern: str, dialect: Dialect, draw: Draw, path: str = "pattern") -> CronFields:
    """Read a pattern as that version of BullMQ does.

    Raises:
        InvalidOptionError: that version refuses it, or finds no day for it; `path` is the error's field.
    """
    if len(pattern) > MAX_LENGTH:
        raise errors.InvalidOptionError(path, f"is longer than {MAX_LENGTH} characters")
    is_5 = dialect is Dialect.BULLMQ_5
    texts = (_ALIASES_5 if is_5 else _ALIASES_6).get(pattern, pattern).split()
    if not texts:
        raise errors.InvalidOptionError(path, "must be a cron pattern")
    if len(texts) > len(_DEFAULTS):
        raise errors.InvalidOptionError(path, "has more than six fields: seconds come first, and years are not known")
    texts = [*_DEFAULTS[: len(_DEFAULTS) - len(texts)], *texts]
    weekday_text, nth = _without_nth(texts[5], path)
    readers = [
        _Reader(field, text, dialect, path)
        for field, text in zip(
            (_SECOND, _MINUTE, _HOUR, _MONTH, _DAY, _WEEKDAY), (*texts[:3], texts[4], texts[3], weekday_text),
            strict=True,
        )
    ]  # fmt: skip
    for reader in readers:
        # cron-parser 5 draws a number for each field, also for fields without `H`.
        reader.read(draw())
    second, minute, hour, month, day, weekday = readers
    days = _days_5(month, day, weekday, nth) if is_5 else _days_6(texts, day, weekday, nth)
    _check_date(days, month, day, is_5=is_5)
    if not any(days.fits(*each) for each in all_days() if each[0] in month.numbers):
        day.refuse("is a date that no year has")
    return CronFields(
        second.sorted, minute.sorted, hour.sorted, month.sorted, days, runs_in_all_hours=len(hour.numbers) == 24
    )


@functools.cache
def all_days() -> list[tuple[int, int, int, int]]:
    """Every combination of month, day, weekday and length of month: arguments of `DayRule.fits`."""
    lengths = [(month, length) for month, length in enumerate(LONGEST_MONTHS, 1)] + [(2, 28)]
    return [
        (month, day, weekday, length)
        for month, length in lengths
        for day in range(1, length + 1)
        for weekday in range(7)
    ]


def _days_5(month: _Reader, day: _Reader, weekday: _Reader, nth: int) -> DayRule:
    """A field counts as open by the number of its values, repetitions counted."""
    numbers = day.numbers
    if len(month.numbers) == 1:
        numbers = [number for number in numbers if number <= LONGEST_MONTHS[month.numbers[0] - 1]]
    listed = len(numbers) + len(day.last)
    return DayRule(
        frozenset(numbers),
        bool(day.last),
        frozenset(weekday.numbers),
        frozenset(int(text[0]) % 7 for text in weekday.last),
        nth,
        limits_all_days=True,
        open_months=frozenset(number for number in range(1, 13) if listed >= LONGEST_MONTHS[number - 1]),
        is_week_open=len(weekday.numbers) + len(weekday.last) == 8,
    )


def _days_6(texts: list[str], day: _Reader, weekday: _Reader, nth: int) -> DayRule:
    """A field counts as open when it is written as `*` or `?`."""
    return DayRule(
        frozenset(day.numbers),
        "L" in texts[3],
        frozenset(weekday.numbers),
        frozenset(int(text[0]) % 7 for text in weekday.last),
        nth,
        open_months=frozenset(range(1, 13) if texts[3] in ("*", "?") else ()),
        is_week_open=texts[5] in ("*", "?"),
    )


def _check_date(days: DayRule, month: _Reader, day: _Reader, *, is_5: bool) -> None:
    """Refuse a day that the one month given never has."""
    if len(month.numbers) != 1 or not day.numbers or min(day.numbers) <= LONGEST_MONTHS[month.numbers[0] - 1]:
        return
    if is_5 or (not days.is_last_of_month and days.is_week_open):
        day.refuse("is a date that no year has")


class _Reader:
    """One field of a pattern."""

    def __init__(self, field: _Field, text: str, dialect: Dialect, path: str) -> None:
        self.field = field
        self.text = text
        self.path = path
        self.numbers: list[int] = []
        """In the order in which they are named, repetitions included; 7 may stand beside 0."""
        self.last: list[str] = []
        """Values with `L`."""
        self._dialect = dialect
        self._is_5 = dialect is Dialect.BULLMQ_5

    @property
    def sorted(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.numbers)))

    def refuse(self, problem: str) -> NoReturn:
        raise errors.InvalidOptionError(self.path, f"{self.field.name} {self.text[:60]!r}: {problem}")

    def read(self, drawn: float) -> None:
        field = self.field
        text = re.sub("[a-zA-Z]{3}", self._number_of_name, self.text) if field.names[self._dialect] else self.text
        if not field.allowed[self._dialect].fullmatch(text):
            self.refuse("holds characters that are not known here")
        wildcards = "[*?]" if not self._is_5 or "*" not in text else "[*]"
        text = re.sub(wildcards, f"{field.lowest}-{field.highest}", text)
        if not self._is_5:
            text = _DRAWN.sub(lambda match: self._drawn(match, drawn), text)
        for part in text.split(","):
            if len(self.numbers) + len(self.last) > _MAX_VALUES and not self._is_5:
                self.refuse("names too many values")
            self._read_part(part)
        if not self._is_5:
            self._check_6()

    def _check_6(self) -> None:
        for values in (self.numbers, self.last):
            if len(set(values)) != len(values):
                self.refuse("names a value twice")
        if not all(re.fullmatch("[0-9]{0,2}L", value) for value in self.last):
            self.refuse("`L` comes after at most one day")

    def _number_of_name(self, match: re.Match[str]) -> str:
        number = self.field.names[self._dialect].get(match[0].lower())
        if number is None:
            self.refuse(f"{match[0]} is no name that is known here")
        return str(number)

    def _drawn(self, match: re.Match[str], drawn: float) -> str:
        """What stands for an `H`, `H(a-b)`, `H/n` or `H(a-b)/n`."""
        first, last = self.field.lowest, self.field.highest
        if match[1]:
            if int(match[1]) > int(match[2]):
                self.refuse("a range goes from the smaller to the larger")
            first, last = max(first, int(match[1])), min(last, int(match[2]))
            if first > last:
                self.refuse(f"{match[0]} holds no value of this field")
        if match[3]:
            step = int(match[3])
            if step < 1:
                self.refuse("steps are 1 or more")
            start = first // step * step + int(drawn * step)
            values = [value for value in range(start, last + 1, step) if value >= first]
            if values:
                return ",".join(map(str, values))
        return str(int(drawn * (last - first + 1)) + first)

    def _read_part(self, part: str) -> None:
        if not part:
            self.refuse("a value is missing")
        pieces = part.split("/")
        if len(pieces) > 2:
            self.refuse("a value has more than one step")
        span = pieces[0]
        if len(pieces) == 2 and "-" not in span and (not self._is_5 or _number_5(span) is not None):
            span = f"{span}-{self.field.highest}"
        if "-" in span and not (self._is_5 and span.startswith("-")):
            self._read_range(span, pieces[1] if len(pieces) == 2 else "1")
        else:
            self._read_single(span)

    def _read_single(self, text: str) -> None:
        field = self.field
        if field.knows_last and "L" in text:
            if field is _WEEKDAY and not text[0].isdecimal():
                self.refuse("`L` needs a day before it, such as 5L")
            self.last.append(text)
            return
        # BullMQ 5 reads `-0` as 0.
        number = 0 if self._is_5 and re.fullmatch("-0+", text) else self._digits(text)
        self._check_bounds(number)
        self.numbers.append(number % 7 if field is _WEEKDAY else number)

    def _read_range(self, text: str, step_text: str) -> None:
        """Both parsers leave out what comes after a second `-`."""
        first_text, last_text, *_ = text.split("-")
        number = _number_5 if self._is_5 else _leading_number
        first, last, step = number(first_text), number(last_text), number(step_text)
        if first is None or last is None:
            self.refuse(f"{text!r} is no range")
        self._check_bounds(first)
        self._check_bounds(last)
        if first > last:
            self.refuse("a range goes from the smaller to the larger")
        if not step:
            self.refuse("steps are 1 or more")
        is_to_sunday = self.field is _WEEKDAY and last % 7 == 0
        values = [0] if is_to_sunday and (self._is_5 or (last - first) % step == 0) else []
        # With BullMQ 5 the steps are counted from `first` on, though 0 may be in the list already.
        values += [value for value in range(first, last + 1, step) if value not in values]
        self.numbers += values

    def _check_bounds(self, number: int) -> None:
        if not self.field.lowest <= number <= self.field.highest:
            self.refuse(f"{number} is not from {self.field.lowest} to {self.field.highest}")

    def _digits(self, text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text):
            self.refuse(f"{text!r} is no number" if text else "a number is missing")
        return int(text)


def _without_nth(text: str, path: str) -> tuple[str, int]:
    """Cut `#n` off the day of the week; 0 = there is none."""
    head, mark, number = text.partition("#")
    if not mark:
        return text, 0
    if re.search("[-,/]", text) or not re.fullmatch("0*[1-5]", number):
        raise errors.InvalidOptionError(
            path, f"day of the week {text[:60]!r}: `#` takes one day and a number from 1 to 5, such as MON#1"
        )
    return head, int(number)


def _number_5(text: str) -> int | None:
    """As JavaScript's `+text`: nothing is 0."""
    return int(text or "0") if re.fullmatch("[0-9]{0,9}", text) else None


def _leading_number(text: str) -> int | None:
    """As JavaScript's `parseInt`: what comes after the number is left out."""
    match = re.match("[0-9]{1,9}", text)
    return int(match[0]) if match else None
