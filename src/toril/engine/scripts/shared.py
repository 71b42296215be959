"""What several scripts share: the layout of paused queues, and how replies are read."""

from __future__ import annotations

import math
from typing import Any, Literal

Layout = Literal["5", "6"]
"""Where the jobs of a paused queue wait: `5` in `paused`; `6` in `wait`, unless a BullMQ 5 peer shows itself by the
list `paused` or as the latest in `meta.version`. `5` is for fleets in which both versions pause the same queue."""


def texts(reply: Any) -> list[str]:
    return [entry.decode(errors="surrogateescape") for entry in reply]


def is_there(reply: Any) -> bool:
    return bool(reply != -1)


def positive(text: bytes | None) -> int | None:
    """A limit in Redis: a number above 0, rounded up; None when there is none, or something else."""
    try:
        number = float(text or b"")
        return math.ceil(number) if number > 0 else None
    except (ValueError, OverflowError):
        return None
