"""BullMQ's cron patterns: read strictly, and written out in plain lists. Pure.

The dialect is that of BullMQ 6's parser: five fields, or six with seconds first; shorter ones are completed on the left
(`0 * * * * *` is the whole); `?`, `a/n` (from a on), names, `7` = Sunday, `L`, `5L`, `1#2`, `@daily` and its like. A
pattern that one of BullMQ's parsers reads differently or not at all is refused: `H` (BullMQ 6 draws a new time for each
run), `W`, years, ranges that fall, values given twice, and dates that no year has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from toril import errors

MAX_LENGTH = 1024
ALIASES = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
    "@minutely": "0 * * * * *",
    "@secondly": "* * * * * *",
    "@weekdays": "0 0 0 * * 1-5",
    "@weekends": "0 0 0 * * 0,6",
}
_DEFAULTS = ("0", "*", "*", "*", "*", "*")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()
    first_name: int = 0
    allows_last: bool = False


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31, allows_last=True),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of the week", 0, 7, _DAYS, allows_last=True),
)


@dataclass(frozen=True, slots=True)
class CronPattern:
    """A pattern in plain lists."""

    plain: tuple[str, ...]
    """Six fields, seconds first, each `*` or a list of single values (`L`, `L5` and `1#2` among the days). Two of them
    where days of the month and of the week are both given: it is time when either says so."""
    hours: frozenset[int]

    @property
    def runs_in_all_hours(self) -> bool:
        """Whether the hour is left open: then a clock that goes back makes it run through the hour twice."""
        return len(self.hours) == 24


def parse(pattern: str, path: str = "pattern") -> CronPattern:
    """Read a pattern. Raises InvalidOptionError with what is wrong and where."""
    if len(pattern) > MAX_LENGTH:
        raise errors.InvalidOptionError(path, f"is longer than {MAX_LENGTH} characters")
    fields = ALIASES.get(pattern, pattern).split()
    if len(fields) > len(_FIELDS):
        raise errors.InvalidOptionError(path, "has more than six fields: seconds come first, and years are not known")
    fields = [*_DEFAULTS[: len(_DEFAULTS) - len(fields)], *fields]
    readers = [_Reader(field, text, path) for field, text in zip(_FIELDS, fields, strict=True)]
    second, minute, hour, day, month, weekday = readers
    nth = weekday.take_nth()
    for reader in readers:
        reader.read()
    if not (day.is_open or day.has_last or not weekday.is_open or nth):
        longest = max(_LONGEST_MONTHS[number - 1] for number in month.values)
        if min(day.values) > longest:
            raise errors.InvalidOptionError(path, f"{pattern!r} is a date that no year has")
    days, weekdays = day.plain(), weekday.plain(nth)
    if days != "*" and weekdays != "*" and (day.is_full or (weekday.is_full and not nth)):
        # Any day fits one of the two.
        days = weekdays = "*"
    choices = [(days, "*"), ("*", weekdays)] if "*" not in (days, weekdays) else [(days, weekdays)]
    plain = tuple(
        " ".join((second.plain(), minute.plain(), hour.plain(), of_month, month.plain(), of_week))
        for of_month, of_week in choices
    )
    return CronPattern(plain, frozenset(hour.values))


class _Reader:
    """One field: what its text says."""

    def __init__(self, field: _Field, text: str, path: str) -> None:
        self.field = field
        self.text = text
        self.path = path
        self.is_open = text in ("*", "?")
        self.has_last = False
        self.values: set[int] = set()
        self.last_weekdays: set[int] = set()
        self._listed: list[int] = []

    @property
    def is_full(self) -> bool:
        """Whether all values are named."""
        highest = 6 if self.field.highest == 7 else self.field.highest
        return self.values >= set(range(self.field.lowest, highest + 1))

    def take_nth(self) -> int:
        """Cut `#n` off the day of the week; 0 = there is none."""
        head, mark, number = self.text.partition("#")
        if not mark:
            return 0
        if not re.fullmatch("[1-5]", number) or not re.fullmatch(r"[0-7]|[a-zA-Z]{3}|\*|\?", head):
            self.refuse("`#` takes one day and a number from 1 to 5, such as MON#1")
        self.text = head
        self.is_open = False
        return int(number)

    def read(self) -> None:
        for part in self.text.split(","):
            self._read_part(part)
        if len(set(self._listed)) != len(self._listed):
            self.refuse("names a value twice")
        if self._listed and self.last_weekdays:
            self.refuse("the last days of a month cannot be mixed with days of every week")
        self.values = {value % 7 for value in self._listed} if self.field.highest == 7 else set(self._listed)

    def plain(self, nth: int = 0) -> str:
        if self.is_open:
            return "*"
        if nth:
            return ",".join(f"{value}#{nth}" for value in sorted(self.values))
        parts = [str(value) for value in sorted(self.values)] + [f"L{value}" for value in sorted(self.last_weekdays)]
        return ",".join([*parts, "L"] if self.has_last else parts)

    def refuse(self, problem: str) -> NoReturn:
        raise errors.InvalidOptionError(self.path, f"{self.field.name} {self.text[:60]!r}: {problem}")

    def _read_part(self, part: str) -> None:
        field = self.field
        if field.allows_last and part == "L" and field.highest == 31:
            self.has_last = True
            return
        if field.allows_last and field.highest == 7 and part.endswith("L") and len(part) > 1:
            self.last_weekdays.add(self._number(part[:-1]) % 7)
            return
        range_text, slash, step_text = part.partition("/")
        step = self._digits(step_text) if slash else 1
        if step < 1:
            self.refuse("steps are 1 or more")
        if range_text in ("*", "?"):
            # The week's end is said as 7 and as 0: each day once.
            first, last = field.lowest, 6 if field.highest == 7 and not slash else field.highest
        elif "-" in range_text:
            first_text, _, last_text = range_text.partition("-")
            first, last = self._number(first_text), self._number(last_text)
        else:
            first = self._number(range_text)
            last = field.highest if slash else first
        if first > last:
            self.refuse("a range goes from the smaller to the larger")
        if first == last and not slash and field.highest == 7:
            first = last = first % 7
        values = list(range(first, last + 1, step))
        if field.highest == 7 and 7 in values and 0 in values:
            values.remove(7)
        self._listed += values

    def _number(self, text: str) -> int:
        field = self.field
        name = text.lower()
        number = field.names.index(name) + field.first_name if name in field.names else self._digits(text)
        if not field.lowest <= number <= field.highest:
            self.refuse(f"{text} is not from {field.lowest} to {field.highest}")
        return number

    def _digits(self, text: str) -> int:
        if not re.fullmatch("[0-9]{1,4}", text):
            self.refuse(f"{text!r} is no number" if text else "a number is missing")
        return int(text)
