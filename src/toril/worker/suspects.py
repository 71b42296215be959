"""Jobs of which one may have ended its worker: each runs alone, so that a worker's next end tells which one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from toril.worker.attempt import Attempt


class Suspects:
    """Decides which of the taken jobs start, and which go back. While a suspect waits or runs, nothing else starts."""

    def __init__(self) -> None:
        self.waiting: Attempt | None = None
        """The suspect that is to start when nothing runs any more."""
        self.is_empty = True
        """Whether no suspect waits or runs: jobs may start as ever."""

    def admit(self, runs: Sequence[Attempt], *, is_idle: bool) -> tuple[list[Attempt], list[Attempt]]:
        """Sort jobs that were taken: what to start now, and what to give back.

        The first suspect starts when nothing runs, else it waits for that. Whatever came with it goes back, and so does
        all that comes while a suspect waits or runs.

        Args:
            is_idle: nothing runs in this worker.
        """
        if not self.is_empty:
            return [], list(runs)
        suspect = next((run for run in runs if run.record.is_suspect), None)
        if suspect is None:
            return list(runs), []
        self.is_empty = False
        if not is_idle:
            self.waiting = suspect
        return [suspect] if is_idle else [], [run for run in runs if run is not suspect]

    def next_one(self) -> Attempt | None:
        """Nothing runs any more: returns the suspect that is to start now, if one waits that is still ours."""
        suspect, self.waiting = self.waiting, None
        self.is_empty = suspect is None or suspect.is_cancelled
        return None if self.is_empty else suspect
