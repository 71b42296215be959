"""The only reader of the clock in this library.

Pure modules get the time as `now_ms`; everything that must ask, asks here, so that a test can see every place.
"""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the wall clock, Unix milliseconds. Only for what BullMQ's clients also take from their own clock."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Return a clock that never steps back, milliseconds from an arbitrary start. For durations and deadlines."""
    return time.monotonic_ns() // 1_000_000
