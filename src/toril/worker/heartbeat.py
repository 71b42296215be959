"""Signs of life of the main loop, for the liveness probe."""

from __future__ import annotations

from toril import clock

STALE_MS = 60_000
"""A main loop that has not gone round for so long hangs: its longest wait for anything is a tenth of that."""


class Heartbeat:
    """When the main loop last went round. Says nothing about Redis: a worker that waits for it is alive."""

    def __init__(self) -> None:
        self._last_ms = clock.monotonic_ms()

    def beat(self) -> None:
        self._last_ms = clock.monotonic_ms()

    @property
    def age_ms(self) -> int:
        return clock.monotonic_ms() - self._last_ms

    @property
    def is_alive(self) -> bool:
        return self.age_ms < STALE_MS
