"""How many jobs a busy worker takes before it has slots for them. Pure."""

from __future__ import annotations

CALL_SECONDS = 0.002
"""About how long a slot is idle between two jobs when the next one is only fetched then."""
SHORTEST_SECONDS, LONGEST_SECONDS = 0.001, 0.05
"""Functions shorter than this run one after the other anyway; for longer ones the wait hardly counts."""
SHARE_OF_ONE = 1 / 16
"""How much one run changes the mean."""


class Prefetch:
    """Follows how long functions run, and says how many jobs to take ahead: as many as end during one call."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._mean_seconds = 0.0

    def record(self, seconds: float) -> None:
        """A function that waits for something ran for so long."""
        self._mean_seconds += (seconds - self._mean_seconds) * SHARE_OF_ONE

    def stop(self) -> None:
        """Jobs taken ahead did not get their turn: take none until functions are seen to end again."""
        self._mean_seconds = 0.0

    @property
    def allowance(self) -> int:
        """How many jobs may be held beyond those that have a slot."""
        mean = self._mean_seconds
        if not SHORTEST_SECONDS <= mean <= LONGEST_SECONDS:
            return 0
        return min(self._concurrency // 2, int(self._concurrency * CALL_SECONDS / mean))
