"""Cron patterns, zones and moments on which we are compared with BullMQ's own parsers."""

from __future__ import annotations

import random
from datetime import UTC, datetime

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "America/Santiago", "utc", "gmt",
    "europe/berlin", "AMERICA/NEW_YORK", "UTC+2", "utc-3:30", "UTC+05", "Etc/GMT+2", "PST", "America/St_Johns",
)  # fmt: skip
MOMENTS = (
    "2026-01-01T01:02:03", "2027-12-31T23:59:59",
    # Shortly before, and within, the clock changes of these zones.
    "2026-03-28T23:10:00", "2026-03-29T00:59:00", "2026-10-24T22:00:00", "2026-10-25T00:15:00", "2026-10-25T01:15:00",
    "2026-03-08T05:30:00", "2026-03-08T07:15:00", "2026-11-01T04:40:00", "2026-11-01T05:40:00", "2026-11-01T06:40:00",
    "2026-04-04T14:20:00", "2026-10-03T15:00:00", "2026-04-05T02:30:00", "2026-09-06T03:30:00",
)  # fmt: skip
READ_ALIKE = (
    "* * * * *", "*/15 * * * *", "0 * * * *", "0 0 * * *", "0 2 * * *", "0 9 * * 1", "0 0 1 * *", "0 */6 * * *",
    "*/5 * * * *", "30 2 * * *", "30 1 * * *", "15,45 2 * * *", "0,30 1-3 * * *", "*/20 0-4 * * *", "30 */2 * * *",
    "0 3 * * *", "* * * * * *", "30 * * * * *", "15,45 30 1,2 * * *", "*/10 59 1 * * *", "0 0 12 * * 1-5",
    "0 0 L * *", "0 0 1,L * *", "0 0 * * 5L", "0 0 * * 1L,3L", "0 0 * * MON#1", "0 0 * * 0#5", "0 12 * * 7",
    "0 0 * * 5-7", "0 0 * JAN-MAR MON-FRI", "5/15 * * * *", "1-5/2 * * * *", "0 0 1,15 * MON", "0 0 ? * tue",
    "0 0 1 * ?", "0 0 31 * *", "0 0 */2 * MON", "@daily", "@weekly", "@hourly", "@monthly", "@yearly",
    "* *", "*/70 * * * *", "0 0 * * 0-6,5L", "0 0 * * 5L,1", "0 0 29 2 *",
)  # fmt: skip
"""Callers may use these."""
ONE_ONLY = (
    "*/2,*/3 * * * * *", "0 */4,12 * * *", "*/5,*/7 * * * *", "0 0 * * 5-7,0", "0 0 L,L * *", "0 0 * * 5L,5L",
    "H * * * *", "H/10 * * * *", "H H(0-5) * * *", "H H * * MON-FRI", "H(10-20)/5 * * * * *", "0 0 H * *",
    "? * * * *", "* ? * * *", "* * * ? *", "@annually", "@minutely", "@secondly", "@weekdays", "@weekends",
    "0 0 31 4 1", "0 0 * * 1-5,1-3", "0 0 -0 1 *", "0 -0 * * *",
)  # fmt: skip
"""One version of BullMQ refuses these."""
READ_DIFFERENTLY = (
    "0 0 * * 3/5", "0 0 * * 2-7/4", "0 0 1 * 1-7", "0 0 15 * MON#1", "0 0 1-31 * MON", "0 0 1-30 * MON", "0 0 L * 5L#2",
)  # fmt: skip
"""Both versions take these, and mean different days."""
REFUSED = (
    "61 * * * *", "a * * * *", "*/0 * * * *", "0 22-2 * * *", "0 0 15W * *", "0 0 LW * *", "0 0 0 1 1 * 2027",
    "0 0 30 2 *", "0 0 31 2,4 *", "0 0 1 13 *", "0 0 32 * *", "0 0 L-3 * *", "0 0 * * L", "0 0 * * 1#6",
    "0 0 * * MON#1,FRI", "* * * * 1,", "@midnight", "@reboot", "1e1 * * * *", "*/5/2 * * * *", "5- * * * *",
    "0 0 0 * *", "H(5-2) * * * *", "RRULE:FREQ=DAILY", "0 0 1 sun *",
)  # fmt: skip
"""Neither version takes these, or ever finds a time for them."""


def milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


def random_patterns(seed: int, count: int) -> list[str]:
    """Patterns, most of them odd: what one parser takes, the other may not."""
    rng = random.Random(seed)
    bounds = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    names = {4: ("jan", "FEB", "dec"), 5: ("sun", "MON", "fri", "5L", "1L", "TUE#2", "0#1")}
    odd = ("L", "?", "*/9", "H", "H/7", "H(2-5)", "-0", "1-5-9", "/5", "07", "*#1", "*/5L", "60", "5?")

    def value(field: int) -> str:
        lowest, highest = bounds[field]
        first = rng.randint(lowest, highest)
        last = rng.randint(lowest, highest) if rng.random() < 0.2 else rng.randint(first, highest)
        kinds = (str(first), f"{first}-{last}", f"{first}-{last}/{rng.randint(1, 6)}", f"*/{rng.randint(1, 9)}")
        more = (f"{first}/{rng.randint(1, 9)}", rng.choice(names.get(field, ("*",))), rng.choice(odd))
        return rng.choices((*kinds, *more), (5, 3, 2, 2, 1, 2, 1))[0]

    def text(field: int) -> str:
        return "*" if rng.random() < 0.5 else ",".join(value(field) for _ in range(rng.choice((1, 1, 1, 2, 3))))

    return [" ".join(text(field) for field in range(rng.choice((0, 1, 1, 1)), 6)) for _ in range(count)]
