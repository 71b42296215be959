"""One attempt at one job, as a worker holds it."""

from __future__ import annotations

import asyncio
from typing import Any

from toril.jobs.outcome import Finish, TakenJob
from toril.tasks.context import JobChannel, JobRun
from toril.worker.outcomes import Rules
from toril.worker.problems import let_go

MAX_BATCH_CHARACTERS = 8_000_000
"""Return values and stack traces sent by one call; one alone may be larger."""


class Attempt(JobRun):
    """One attempt at one job, from its being taken to its end being recorded.

    A `JobRun`, since functions get the job's channel through it: a second object for each job would cost its making.
    """

    record: TakenJob
    # What most runs never set stands here once, not in each.
    task: asyncio.Task[Any] | None = None
    """Runs the job; None before and after that, and for a function in a thread."""
    started = 0.0
    """When the function was called, in the seconds of `time.monotonic`; 0.0 = not yet."""
    has_waited = False
    """Whether the function waited for something, or ran in a thread."""
    seconds = 0.0
    """How long the function ran."""
    finish: Finish | None = None
    """How it ended, once it has."""
    error: BaseException | None = None
    is_retaken = False
    """Whether the lock had run out before the finish and was taken back."""

    def __init__(self, job: TakenJob, channel: JobChannel, loop: asyncio.AbstractEventLoop, rules: Rules) -> None:
        super().__init__(job, channel, loop)
        self.rules = rules

    def release(self) -> None:
        """Free what the frames of the error's traceback hold. Call it when no function reads the error any more."""
        error, self.error = self.error, None
        if error is not None:
            let_go(error)

    @property
    def may_be_back(self) -> bool:
        """Whether the job was given back as never started, by a call that was not answered."""
        return self.finish is not None and self.finish.is_repeated and not self.finish.has_started

    @property
    def outcome(self) -> Finish:
        assert self.finish is not None, "the job has not ended"
        return self.finish


def first_batch(ended: list[Attempt], size: int) -> tuple[list[Attempt], list[Attempt]]:
    """What the next call may record of these runs, `size` at most, and the rest."""
    characters = 0
    for index, run in enumerate(ended[:size]):
        finish = run.outcome
        characters += len(finish.value) + len(finish.stacktrace)
        if index and characters > MAX_BATCH_CHARACTERS:
            size = index
            break
    return ended[:size], ended[size:]
