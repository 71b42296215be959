"""What follows the end of jobs: metrics count it, the reporter logs it, hooks are called, and its error lets go."""

from __future__ import annotations

from collections.abc import Sequence

from toril.worker.attempt import Attempt
from toril.worker.hooks import Hooks
from toril.worker.metrics import Metrics
from toril.worker.reporter import Reporter


class Ends:
    """Passes ends on, to each in turn."""

    def __init__(self, metrics: Metrics, reporter: Reporter, hooks: Hooks) -> None:
        self._metrics = metrics
        self._reporter = reporter
        self._hooks = hooks

    def recorded(self, runs: Sequence[Attempt]) -> None:
        """These ends are in Redis."""
        self._metrics.finished(runs)
        self._reporter.finished(runs)
        # They release the runs, once no function looks at the error any more.
        self._hooks.recorded(runs)

    def lost(self, run: Attempt, why: str) -> None:
        """This run's result is not recorded, and never will be."""
        self._metrics.record_stalled("lock_lost")
        self._reporter.lost(run, why)
        run.release()
