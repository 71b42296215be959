"""What it means that Redis refuses the end of a job: the codes of `finish_and_take`, read for one run."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from toril import errors
from toril.engine.worker import ActiveJobs
from toril.jobs.outcome import Finish, TakenJob
from toril.worker import outcomes
from toril.worker.attempt import Run

PENDING_CHILDREN, FAILED_CHILDREN, NO_LOCK, GONE = -4, -9, -2, -1
BY_CHILDREN = (PENDING_CHILDREN, FAILED_CHILDREN)

_WHY_LOST = {
    GONE: "the job was removed",
    NO_LOCK: "its lock ran out and the job was given to others",
    -3: "it is not active any more",
    -6: "another worker holds it",
}


class GivenUp:
    """Jobs whose ends Redis cannot carry out. Until their locks run out they look as if we held them; to take them for
    ours would run them again and again."""

    def __init__(self, lock_seconds: float) -> None:
        self._keep_seconds = 2 * lock_seconds
        self._until: dict[tuple[str, str], float] = {}

    def add(self, job: TakenJob) -> None:
        now = time.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        self._until[job.id, job.token] = now + self._keep_seconds

    def without(self, jobs: Sequence[TakenJob]) -> list[TakenJob]:
        """The jobs that are not given up."""
        return [job for job in jobs if (job.id, job.token) not in self._until]


def why_lost(code: int) -> str:
    """Why a run's result cannot be recorded, for people."""
    return _WHY_LOST.get(code, f"code {code}")


def is_outage(problem: errors.RedisError) -> bool:
    """Whether Redis could not be reached or cannot serve; otherwise it answered that this call makes no sense to it."""
    return isinstance(problem, errors.RedisUnavailableError | errors.UnknownOutcomeError)


async def is_the_jobs_own(active: ActiveJobs, finish: Finish, problem: errors.RedisError) -> bool:
    """Whether a finish that was refused will always be, by what this job alone has. What is wrong with the queue's keys
    can be mended: then all ends wait for that."""
    if is_outage(problem):
        return False
    try:
        if await active.wrong_key() is not None:
            return False
        # They may have been mended in this moment.
        await active.finish_and_take([finish], 0, finish.job.token)
    except errors.RedisError as again:
        return not is_outage(again)
    return False


def was_carried_out(finish: Finish, code: int) -> bool:
    """Whether this refusal means that the same finish was carried out before: what is gone has ended, and is not kept.
    Where the job is still there the script knows, but for one that was given back unstarted: whether it is active by
    our taking it or by another's since. If by ours, then it stalls."""
    return finish.is_repeated and (code == GONE or (code == NO_LOCK and not finish.has_started))


def failed_by_children(run: Run, code: int) -> Finish:
    """It fails instead; that is no fault of its own while children are pending, so that it may be tried again."""
    problem: errors.TorilError
    if code == PENDING_CHILDREN:
        problem = errors.JobStateError(f"job {run.record.id} has child jobs that have not ended")
    else:
        problem = errors.UnrecoverableError(f"job {run.record.id} has child jobs that have failed")
    run.error = problem
    return outcomes.failed(run.record, problem, run.rules, random.random)
