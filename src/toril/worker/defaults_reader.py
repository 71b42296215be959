"""Reads the queue's defaults anew, for jobs that do not say themselves how long they are kept."""

from __future__ import annotations

from toril import errors, periodic
from toril.engine import operations
from toril.engine.queue_defaults import KnownDefaults
from toril.engine.worker import ActiveJobs
from toril.worker.outcomes import RuleBook

PAUSE_SECONDS = 25.0
"""Between two reads: less than `queue_defaults.MAX_AGE_MS`, which is when a change must be known."""


class DefaultsReader:
    """Keeps the rules of one worker up to date."""

    def __init__(self, active: ActiveJobs, rules: RuleBook) -> None:
        self._connection = active.connection
        self._known = KnownDefaults(active.keys, max_age_ms=0)
        self._rules = rules

    async def read_loop(self) -> None:
        """Read at once, then every `PAUSE_SECONDS`. While Redis is away, the latest known defaults hold.

        A failure is not logged: the main loop meets the same failure, and logs it.
        """
        await periodic.repeat(periodic.Pace(PAUSE_SECONDS), self.run_once, expected=errors.RedisError)

    async def run_once(self) -> None:
        """Read now. Raises RedisError."""
        defaults = await operations.execute(self._connection, self._known.refresh())
        self._rules.use_defaults(defaults.options.wire)
